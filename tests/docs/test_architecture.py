"""The page about the architecture names what exists, and its layers are those that a test enforces."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.layers import KNOWS_AIRFLOW, MAY_IMPORT

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_allma"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

_CODE = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"([\w/]+\.py): (\w+(?:\.\w+)*)")
_FILE = re.compile(r"[\w/]+\.py")
SPANS = list(dict.fromkeys(_CODE.findall(PAGE)))
NAMES = [span for span in SPANS if _NAME.fullmatch(span)]


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return what a module defines itself: functions, classes with their members, and constants."""
    return frozenset(_names(ast.parse(file.read_text()).body))


def _names(body: list[ast.stmt], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(prefix + node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {prefix + node.name, *_names(node.body, f"{prefix}{node.name}.")}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(prefix + node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {prefix + target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("span", NAMES)
def test_every_function_on_the_page_exists(span):
    path, name = _NAME.fullmatch(span).groups()
    assert (PACKAGE / path).is_file()
    assert name in names_in(PACKAGE / path)


def test_every_file_on_the_page_exists_and_every_colon_is_followed_by_a_name():
    files = [span for span in SPANS if _FILE.fullmatch(span)]
    assert [file for file in files if not (PACKAGE / file).is_file()] == []
    assert [span for span in SPANS if ".py:" in span and span not in NAMES] == []


def test_the_page_is_short_and_names_every_journey():
    assert len(PAGE.splitlines()) < 200
    for number in range(1, 5):
        assert len(_NAME.findall(section(f"Journey {number}"))) >= 20


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}[^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_table_of_layers_has_all_parts_each_above_what_it_imports():
    rows = re.findall(r"^\| (`.*?) \|", section("Layers"), re.MULTILINE)
    row_of = {part: number for number, row in enumerate(rows) for part in _CODE.findall(row)}
    assert row_of.keys() == MAY_IMPORT.keys()
    assert [
        (part, below) for part, allowed in MAY_IMPORT.items() for below in allowed
        if row_of[below] <= row_of[part]
    ] == []  # fmt: skip


def test_the_page_names_the_parts_that_import_airflow():
    line = re.search(r"^Only (.*) import Airflow\.$", section("Layers"), re.MULTILINE)
    assert line is not None
    assert set(_CODE.findall(line[1])) == KNOWS_AIRFLOW
