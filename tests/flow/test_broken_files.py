"""Each file in `broken/` has mistakes; the file beside it lists all that must be said about them.

A line of an `.expected` file is `line:column severity path | what the message must contain`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_allma.flow import FlowChecks, LoadedFile, load_file
from tests.support.flow_checks import BracketChecks

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.json"))


def load(path: Path) -> LoadedFile:
    return load_file(path, FlowChecks(BracketChecks()), file=path.name)


def test_there_are_enough_broken_files():
    assert len(BROKEN) >= 100


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_mistake_is_reported_with_its_position_and_how_to_fix_it(path):
    expected = path.with_suffix(".expected").read_text().splitlines()
    problems = load(path).problems
    assert [f"{p.line}:{p.column} {p.severity} {p.path}" for p in problems] == [
        line.split(" | ")[0] for line in expected
    ]
    for problem, line in zip(problems, expected, strict=True):
        assert line.split(" | ", 1)[1] in problem.message


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_flow_with_an_error_is_never_returned(path):
    loaded = load(path)
    if loaded.has_errors and not path.stem.startswith("export"):
        assert loaded.flows == ()


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_problem_renders_as_one_line_that_editors_understand(path):
    for problem in load(path).problems:
        rendered = str(problem)
        assert rendered.startswith(f"{path.name}:{problem.line}:{problem.column}: {problem.severity}: $")
        assert "\n" not in rendered
        assert "pydantic" not in rendered
        assert "Input should" not in rendered
