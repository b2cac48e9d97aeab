"""What is read from one flow file."""

from __future__ import annotations

import json
import os

import pytest

from airflow_allma.flow import (
    FileKind,
    FlowChecks,
    StepType,
    load_file,
)
from airflow_allma.flow import documents as documents_module
from airflow_allma.flow.bundle import Bundle
from tests.support.flow_checks import BracketChecks
from tests.support.flow_files import NO_OP, flow, write

EXPRESSIONS = FlowChecks(BracketChecks())
EXPRESSIONS_AND_STEPS = FlowChecks(BracketChecks(), supported=lambda _: None)


def test_a_flow_file_contains_its_flow_and_the_original_json(tmp_path):
    path = write(tmp_path, "shop.json", "\n  " + json.dumps(flow()))
    loaded = load_file(path, EXPRESSIONS)
    (source,) = loaded.flows
    assert loaded.kind is FileKind.FLOW
    assert loaded.problems == ()
    assert (source.flow.id, source.file, source.path, source.line, source.column) == (
        "shop",
        str(path),
        (),
        2,
        3,
    )
    assert source.definition == flow()
    assert source.bundle == Bundle()


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path):
    path = tmp_path / "shop.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(flow(), indent=1).replace("\n", "\r\n").encode())
    assert load_file(path).problems == ()


def test_columns_are_counted_in_characters_not_in_bytes(tmp_path):
    path = write(
        tmp_path,
        "shop.json",
        '{"name": "\u00e4\u00f6\u4e2d", "id": 3, "startStepInstanceId": "a", "steps": '
        '{"a": {"stepType": "NO_OP"}}}',
    )
    (problem,) = load_file(path).problems
    assert (problem.line, problem.column) == (1, 23)


def test_a_file_that_is_not_utf8_says_where(tmp_path):
    path = tmp_path / "shop.json"
    path.write_bytes(b'{\n "id": "caf\xe9"}')
    (problem,) = load_file(path).problems
    assert (problem.line, problem.column) == (2, 12)
    assert "UTF-8" in problem.message


def test_a_missing_file_is_a_problem_not_a_crash(tmp_path):
    loaded = load_file(tmp_path / "gone.json")
    assert loaded.kind is FileKind.UNREADABLE
    assert "No such file" in loaded.problems[0].message


def test_a_pipe_is_rejected_unopened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "not a regular file" in load_file(tmp_path / "pipe.json").problems[0].message


def test_a_path_with_a_zero_byte_is_a_problem_not_a_crash():
    assert load_file("a\0.json").has_errors


def test_a_file_that_is_too_large_is_rejected_unread(tmp_path, monkeypatch):
    path = write(tmp_path, "shop.json", flow(description="x" * 2_000_000))
    assert not load_file(path).has_errors
    monkeypatch.setattr(documents_module, "MAX_FILE_BYTES", 1 << 20)
    assert "larger than 1 MiB" in load_file(path).problems[0].message


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_a_very_deep_file_is_a_problem_not_a_crash(tmp_path, opening):
    loaded = load_file(write(tmp_path, "deep.json", opening * 200_000))
    assert "nested deeper than 100 levels" in loaded.problems[0].message


def test_a_very_long_number_is_a_problem_not_a_crash(tmp_path):
    loaded = load_file(write(tmp_path, "long.json", '{"a": ' + "9" * 5_000 + "}"))
    assert loaded.has_errors
    assert loaded.problems[0].column == 7


def test_json_of_another_shape_is_ignored_with_a_warning(tmp_path):
    for value in ({"compilerOptions": {}}, [1], "text", 5, None, {"steps": {"a": 1}}):
        loaded = load_file(write(tmp_path, "other.json", json.dumps(value)))
        assert loaded.kind is FileKind.OTHER
        assert [str(problem.severity) for problem in loaded.problems] == ["warning"]


def test_a_flow_without_its_start_is_a_broken_flow_not_another_kind_of_file(tmp_path):
    loaded = load_file(write(tmp_path, "shop.json", {"id": "shop", "steps": NO_OP}))
    assert loaded.kind is FileKind.FLOW
    assert loaded.broken_flow_ids == ("shop",)


def test_a_prompt_file_contains_its_prompt(tmp_path):
    path = write(tmp_path, "hello.prompt.json", {"id": "hello", "content": "Hi {{name}}", "version": 2})
    loaded = load_file(path, EXPRESSIONS)
    assert loaded.kind is FileKind.PROMPT
    assert loaded.flows == ()
    assert [(p.id, p.version, p.content) for p in loaded.bundle.prompts] == [("hello", 2, "Hi {{name}}")]


EXPORT = {
    "formatVersion": "1.0",
    "exportedAt": "2026-01-01T00:00:00Z",
    "flows": [
        flow(
            "one", steps={"a": {"stepDefinitionId": "call", "customConfig": {"timeoutMs": 5}, "name": "mine"}}
        ),
        flow("broken", steps={"a": {"stepType": "NO"}}),
        flow("two"),
    ],
    "stepDefinitions": [
        {
            "id": "call",
            "version": 4,
            "name": "Caller",
            "stepType": "API_CALL",
            "apiHttpMethod": "GET",
            "apiUrlTemplate": {"template": "https://api.test/"},
            "customConfig": {"timeoutMs": 1, "tries": [1, 2]},
        }
    ],
    "promptTemplates": [{"id": "p", "name": "P", "content": "Hi", "isPublished": True}],
    "mcpConnections": [
        {
            "id": "m",
            "serverUrl": "https://mcp.test",
            "authentication": {"type": "API_KEY", "secretArn": "arn"},
        }
    ],
    "agents": [{"id": "shopper", "name": "Shopper", "flowVariables": {"x": 1}, "flowIds": ["two"]}],
}


def test_an_export_contains_its_valid_flows_and_what_they_use(tmp_path):
    loaded = load_file(write(tmp_path, "export.json", json.dumps(EXPORT, indent=1)))
    assert loaded.kind is FileKind.EXPORT
    assert [source.flow.id for source in loaded.flows] == ["one", "two"]
    assert [source.path for source in loaded.flows] == [("flows", 0), ("flows", 2)]
    assert loaded.flows[1].line > loaded.flows[0].line > 1
    assert loaded.broken_flow_ids == ("broken",)
    assert [problem.path for problem in loaded.problems] == ["$.flows[1].steps.a.stepType"]
    bundle = loaded.bundle
    assert [prompt.id for prompt in bundle.prompts] == ["p"]
    assert bundle.connections[0].authentication.type == "API_KEY"
    assert bundle.agents[0].flow_variables == {"x": 1}
    assert [source.bundle for source in loaded.flows] == [Bundle(), Bundle(agents=bundle.agents)]
    assert [source.flow.flow_variables for source in loaded.flows] == [{}, {"x": 1}]


def test_a_step_inherits_from_its_definition_and_its_own_fields_win(tmp_path):
    step = load_file(write(tmp_path, "export.json", EXPORT)).flows[0].flow.steps["a"]
    assert step.step_type is StepType.API_CALL
    assert step.api_http_method == "GET"
    assert step.custom_config == {"timeoutMs": 5, "tries": [1, 2]}
    assert step.model_extra == {"name": "mine"}


def test_lists_are_replaced_and_not_merged_when_a_step_inherits(tmp_path):
    export = json.loads(json.dumps(EXPORT))
    export["flows"] = [
        flow(steps={"a": {"stepDefinitionId": "call", "customConfig": {"tries": [9]}}}),
    ]
    step = load_file(write(tmp_path, "export.json", export)).flows[0].flow.steps["a"]
    assert step.custom_config == {"timeoutMs": 1, "tries": [9]}


def test_a_branchs_own_steps_inherit_too(tmp_path):
    branch = {"branchId": "b", "stepInstanceId": "x", "steps": {"x": {"stepDefinitionId": "call"}}}
    fork = {"stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.i", "parallelBranches": [branch]}
    loaded = load_file(write(tmp_path, "export.json", {**EXPORT, "flows": [flow(steps={"a": fork})]}))
    assert not loaded.has_errors
    assert loaded.flows[0].flow.steps["a"].parallel_branches[0].steps["x"].step_type is StepType.API_CALL


def test_an_unsupported_step_is_an_error_at_its_type_even_in_a_branch(tmp_path):
    branch = {"branchId": "b", "stepInstanceId": "x", "steps": {"x": {"stepType": "END_FLOW"}}}
    fork = {"stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.i", "parallelBranches": [branch]}
    path = write(tmp_path, "shop.json", flow(steps={"a": fork}))

    def supported(step):
        return ("stepType", "END_FLOW has no engine") if step.step_type is StepType.END_FLOW else None

    (problem,) = load_file(path, FlowChecks(supported=supported)).problems
    assert problem.path == "$.steps.a.parallelBranches[0].steps.x.stepType"
    assert problem.message == "END_FLOW has no engine"
    assert problem.column > 1


def test_unsupported_steps_are_reported_along_with_other_mistakes(tmp_path):
    steps = {
        "a": {"stepType": "NO_OP", "displayName": 5, "defaultNextStepInstanceId": "b"},
        "b": {"stepType": "MCP_CALL", "mcpConnectionId": "m", "toolName": "t"},
    }
    loaded = load_file(
        write(tmp_path, "shop.json", flow(steps=steps)),
        FlowChecks(supported=lambda one: ("stepType", one.step_type)),
    )
    assert [problem.path for problem in loaded.problems] == ["$.steps.a.displayName", "$.steps.b.stepType"]
