"""The browser code of the pages: its lines, its comments, and no code or HTML that is made of text."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "airflow_allma" / "server" / "static"
MODULES = [file for file in sorted(STATIC.rglob("*.js")) if "vendor" not in file.parts]
MAX_LINE = 110
FORBIDDEN = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML)\b"
    r"|\bdocument\.write\b|\b(?:eval|Function)\(|^\s*var\b",
    re.MULTILINE,
)
EXPORT = re.compile(r"^export (?:default|async function|function|class|const)\b")

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


@each_module
def test_lines_fit_and_the_first_one_says_what_the_module_has(module):
    lines = module.read_text().splitlines()
    assert lines[0].startswith("// ")
    assert [number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE] == []


@each_module
def test_what_a_module_exports_is_documented(module):
    lines = module.read_text().splitlines()
    for before, line in pairwise(lines):
        if EXPORT.match(line):
            assert before.endswith("*/"), line


@each_module
def test_no_module_makes_code_or_html_of_text(module):
    assert FORBIDDEN.findall(module.read_text()) == []


@each_module
def test_every_module_is_valid(module):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, "--check", "--input-type=module"]
    checked = subprocess.run(command, input=module.read_bytes(), capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()


@pytest.mark.parametrize(
    "text",
    ["a.innerHTML = b", "eval(a)", "new Function(a)", "  var a = 1;", "<p dangerouslySetInnerHTML=1 />"],
)
def test_the_guard_finds_what_is_forbidden(text):
    assert FORBIDDEN.search(text)
