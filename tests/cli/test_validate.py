from __future__ import annotations

import re

import pytest

from tests.support.cli import flow_document, run_cli, write_file

GOOD = flow_document({"a": {"stepType": "NO_OP"}})
WARNED = flow_document({"a": {"stepType": "NO_OP"}, "lonely": {"stepType": "NO_OP"}}, id="warned")
LINE = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+): (?P<severity>error|warning): \$\S*: .+")


def test_a_good_flow_has_nothing_to_print_and_exits_with_0(tmp_path):
    result = run_cli("validate", write_file(tmp_path, "good.json", GOOD))
    assert (result.code, result.out) == (0, "")
    assert result.err == "1 files, 1 flows that run, 0 errors, 0 warnings\n"


def test_warnings_alone_exit_with_0(tmp_path):
    result = run_cli("validate", write_file(tmp_path, "warned.json", WARNED))
    assert (result.code, result.out.count(": warning: $.steps.lonely: ")) == (0, 1)


def test_every_problem_is_a_line_with_its_location(repository):
    file = repository / "tests/flow/broken/many_mistakes.json"
    result = run_cli("validate", file)
    assert result.code == 1
    lines = result.out.splitlines()
    assert len(lines) > 3
    text = file.read_text().splitlines()
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None, line
        assert found["file"] == str(file)
        assert int(found["column"]) <= len(text[int(found["line"]) - 1]) + 1


def test_a_folder_is_searched_and_a_broken_file_does_not_affect_others(tmp_path):
    (tmp_path / "deep").mkdir()
    write_file(tmp_path, "good.json", GOOD)
    write_file(tmp_path / "deep", "broken.json", "{")
    write_file(tmp_path / "deep", "notes.txt", "{")
    result = run_cli("validate", tmp_path)
    assert result.code == 1
    assert result.out.startswith(f"{tmp_path}/deep/broken.json:1:")
    assert result.err.startswith("2 files, 1 flows that run, 1 errors")


def test_a_folder_without_flow_files_says_so(tmp_path):
    write_file(tmp_path, "notes.txt", "{")
    result = run_cli("validate", tmp_path)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith(f"no flow files found in {tmp_path}; flow files are JSON files, *.json\n")


def test_the_same_flow_in_two_files_is_an_error(tmp_path):
    one, two = write_file(tmp_path, "a.json", GOOD), write_file(tmp_path, "b.json", GOOD)
    result = run_cli("validate", one, two)
    assert result.code == 1
    assert "is already defined in" in result.out


@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "no/such/file.json"], ["validate", "--what"]]
)
def test_wrong_usage_exits_with_2(arguments):
    result = run_cli(*arguments)
    assert (result.code, result.out) == (2, "")


def test_steps_that_cannot_run_here_are_reported_with_their_location(tmp_path):
    document = flow_document({"a": {"stepType": "DATA_LOAD", "moduleIdentifier": "acme/none"}})
    result = run_cli("validate", write_file(tmp_path, "none.json", document))
    assert result.code == 1
    assert "$.steps.a.moduleIdentifier: " in result.out


def test_the_bundled_flows_are_valid(repository):
    assert (run_cli("validate", repository / "dags").code, run_cli("validate", repository / "dags").out) == (
        0,
        "",
    )


DEPLOYED = flow_document({"a": {"stepType": "NO_OP"}}, flowVariables={"x": "{{stage}}-{{region}}"})


def test_deploy_options_fill_in_placeholders_over_those_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__DEPLOY_VARIABLES", '{"region": "here", "stage": "test"}')
    file = write_file(tmp_path, "f.json", DEPLOYED)
    assert run_cli("validate", file).out == ""
    ran = run_cli("run", file, "--deploy", "stage=a=b")
    assert ran.json["context"]["flow_variables"]["x"] == "a=b-here"
    assert run_cli("plan", file, "--deploy", "stage=prod").code == 0


def test_a_placeholder_without_a_value_is_a_located_warning(tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW__ALLMA__DEPLOY_VARIABLES", raising=False)
    file = write_file(tmp_path, "f.json", DEPLOYED)
    result = run_cli("validate", file, "--deploy", "stage=prod")
    assert (result.code, result.out.count("warning: $.flowVariables.x: `{{region}}` has no value")) == (0, 1)
    assert "`{{stage}}`" not in result.out
    for command in ("run", "plan"):
        assert "`{{region}}` has no value" in run_cli(command, file, "--deploy", "stage=prod").err


@pytest.mark.parametrize("option", ["stage", "=prod", " =x"])
@pytest.mark.parametrize("command", ["validate", "run", "plan"])
def test_a_deploy_option_that_is_no_assignment_exits_with_2(tmp_path, command, option):
    result = run_cli(command, write_file(tmp_path, "f.json", DEPLOYED), "--deploy", option)
    assert (result.code, result.out) == (2, "")
    assert "is not NAME=VALUE" in result.err


def test_a_file_is_validated_with_what_other_files_of_its_folder_define(tmp_path):
    document = flow_document({"a": {"stepDefinitionId": "mine"}})
    file = write_file(tmp_path, "f.json", document)
    assert run_cli("validate", file).code == 1
    definition = {"id": "mine", "stepType": "NO_OP"}
    write_file(tmp_path, "d.json", {"formatVersion": "1.0", "stepDefinitions": [definition]})
    result = run_cli("validate", file)
    assert (result.code, result.out) == (0, "")
    assert result.err == "1 files, 1 flows that run, 0 errors, 0 warnings\n"
    assert run_cli("run", file).json["status"] == "COMPLETED"
