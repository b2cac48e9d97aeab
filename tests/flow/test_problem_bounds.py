"""A problem is printable and not too long, whatever the file and its name contain."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_allma.flow import FlowChecks, Problem, load_file
from airflow_allma.flow.diagnostics import json_path
from airflow_allma.loading import FLOW_CHECKS
from tests.support.flow_files import flow, write

MAX_LENGTH = 4000


def problems(folder, document, name="f.json"):
    return load_file(write(folder, name, document), FLOW_CHECKS).problems


LONG = "k" * 100_000

HOSTILE_KEYS = {
    "a long step id": flow(steps={LONG: {"stepType": "NOPE"}, "a": {"stepType": "NO_OP"}}),
    "a long unknown key": flow(airflow={LONG: 1}),
    "a long key in mappings": flow(steps={"a": {"stepType": "NO_OP", "inputMappings": {LONG: "$.a["}}}),
    "a long value": flow(steps={"a": {"stepType": "NO_OP", "defaultNextStepInstanceId": LONG}}),
    "a long time zone": flow(airflow={"timezone": LONG}),
    "a long schedule": flow(airflow={"schedule": LONG}),
    "a key of control characters": flow(airflow={"\x1b\r\n\u202e\x00": 1}),
    "a long key of control characters": flow(airflow={"\x1b\u202e" * 50_000: 1}),
    "a key twice": f'{{"{LONG}": 1, "{LONG}": 2}}',
    "a number that is too long": f'{{"a": {"9" * 100_000}}}',
    "words that are not JSON": f'{{"a": {LONG}}}',
    "a schema that is not valid": flow(airflow={"inputSchema": {"properties": {LONG: {"type": LONG}}}}),
}


@pytest.mark.parametrize("document", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_a_problem_is_short_and_printable_and_has_a_position(tmp_path, document):
    found = problems(tmp_path, document)
    assert found
    for problem in found:
        shown = str(problem).replace("\n", "")
        assert len(shown) < MAX_LENGTH + len(str(tmp_path))
        assert shown.isprintable()
        assert problem.line


def test_a_long_path_keeps_its_beginning_and_its_end(tmp_path):
    found = problems(tmp_path, flow(steps={"a": {"stepType": "NO_OP"}, LONG: {"stepType": "NOPE"}}))
    (path,) = {problem.path for problem in found if problem.path.endswith("stepType")}
    assert path.startswith("$.steps['kkk")
    assert path.endswith("kkk'].stepType")
    assert "..." in path
    assert len(path) < 120


def test_a_path_of_many_long_keys_is_short():
    path = tuple(f"{number}{LONG}" for number in range(90))
    assert len(Problem("f", 1, 1, json_path(path), "m").path) == 400


def test_a_problem_made_anywhere_is_short_and_printable():
    problem = Problem("f\x1b\n.json", 1, 2, "$.a\x00" + LONG, f"reason\x1b[2J\nsecond line {LONG}")
    assert len(str(problem)) < MAX_LENGTH
    assert str(problem).startswith("f\\x1b\\n.json:1:2: error: $.a\\x00kkk")
    assert "reason\\x1b[2J\nsecond line" in problem.message
    assert problem.file == "f\x1b\n.json", "callers look the file up by it"


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX")
def test_a_file_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path / "flow-") + b"\xff\n.json")
    Path(file).write_text(json.dumps(flow(steps={})))
    (problem, *_) = load_file(file, FLOW_CHECKS).problems
    assert str(problem).encode()
    assert "flow-\\udcff\\n.json:1:" in str(problem)


def failing(error):
    def supported(_step):
        raise error

    return FlowChecks(supported=supported)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (OverflowError("int too large\x00"), "cannot be checked: OverflowError: int too large\\x00"),
        (MemoryError(), "cannot be checked: MemoryError"),
    ],
)
def test_a_flow_that_cannot_be_checked_is_a_problem_at_its_place_and_the_others_load(
    tmp_path, error, message
):
    export = {"formatVersion": "1.0", "flows": [flow("one"), flow("two")]}
    loaded = load_file(write(tmp_path, "e.json", json.dumps(export, indent=1)), failing(error))
    assert [problem.path for problem in loaded.problems] == ["$.flows[0]", "$.flows[1]"]
    assert [problem.line for problem in loaded.problems] == [4, 13]
    assert all(message in problem.message for problem in loaded.problems)
    assert loaded.broken_flow_ids == ("one", "two")
