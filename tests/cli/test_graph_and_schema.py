from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import jsonschema
import pytest

from airflow_allma.cli import app
from tests.support.cli import flow_document, run_cli, write_file


@pytest.mark.parametrize("name", ["enrich_users", "product_details"])
def test_the_graph_of_a_bundled_flow_matches_its_snapshot(repository, name):
    result = run_cli("graph", repository / f"dags/{name}.json")
    assert (result.code, result.err) == (0, "")
    kept = repository / f"tests/cli/snapshots/{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        kept.write_text(result.out)
    assert result.out == kept.read_text(), "if this change is meant: UPDATE_SNAPSHOTS=1 pytest tests/cli"


def test_the_edges_of_the_chart_are_between_declared_tasks(repository):
    chart = run_cli("graph", repository / "dags/enrich_users.json").out.partition("flowchart LR\n")[2]
    named = {
        line.split("[")[0].strip()
        for line in chart.splitlines()
        if line.strip().startswith("t") and "[" in line
    }
    joined = {end.strip() for line in chart.splitlines() if "-->" in line for end in line.split("-->")}
    assert joined
    assert joined <= named


def test_with_svg_the_graph_is_a_picture_of_the_steps(repository):
    result = run_cli("graph", repository / "dags/product_details.json", "--svg")
    assert (result.code, result.err) == (0, "")
    texts = {element.text for element in ET.fromstring(result.out).iter() if element.tag.endswith("text")}
    assert {"Start", "Fetch product details"} & texts


def test_for_a_broken_flow_graph_prints_its_problems(tmp_path):
    file = write_file(
        tmp_path, "f.json", flow_document({"a": {"stepType": "NO_OP", "defaultNextStepInstanceId": "b"}})
    )
    result = run_cli("graph", file)
    assert (result.code, result.out) == (2, "")
    assert f"{file}:1:" in result.err


@pytest.mark.parametrize("options", [[], ["--strict"]])
def test_the_schema_accepts_the_bundled_flows_and_refuses_others(repository, options):
    result = run_cli("schema", *options)
    assert (result.code, result.err) == (0, "")
    schema = result.json
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    for file in sorted((repository / "dags").glob("*.json")):
        document = json.loads(file.read_text())
        assert list(validator(schema).iter_errors(document)) == []
        assert not validator(schema).is_valid({**document, "startStepInstanceId": 5})
        assert not validator(schema).is_valid({**document, "steps": {"a": {"stepType": "NO_SUCH"}}})
        assert validator(schema).is_valid({**document, "comment": "x"}) is not bool(options)


def test_without_a_command_the_commands_are_shown():
    result = run_cli()
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert {"validate", "run", "plan", "graph", "schema"} <= set(commands)
    shown = result.out + result.err
    assert [name for name in commands if not re.search(rf"^\W*{name}\s", shown, re.MULTILINE)] == []


@pytest.mark.parametrize("command", [["validate", "dags"], ["schema"], ["schema", "--strict"], ["--help"]])
def test_a_command_that_needs_no_airflow_does_not_import_it(repository, command):
    program = (
        "import sys\nfrom airflow_allma.cli import app\n"
        f"try:\n    app({command!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print('imported', {'airflow', 'boto3'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=repository
    )
    assert answer.stdout.endswith("imported set()\n")
