from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_allma.flow import (
    FileCache,
    FileKind,
    FlowChecks,
    StepType,
    find_files,
    load_file,
    load_found_files,
    select_flows,
)
from airflow_allma.flow import documents as documents_module
from airflow_allma.flow.files import Bundle
from tests.support.flow_checks import BracketChecks

NO_OP = {"a": {"stepType": "NO_OP"}}
EXPRESSIONS = FlowChecks(BracketChecks())
EXPRESSIONS_AND_STEPS = FlowChecks(BracketChecks(), supported=lambda _: None)


def load_folder(folder):
    return load_found_files([find_files(folder)], FileCache())


def flow(flow_id="shop", **fields):
    return {"id": flow_id, "startStepInstanceId": "a", "steps": NO_OP, **fields}


def write(folder, name, value):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


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
    "agents": [{"id": "shopper", "name": "Shopper", "flowVariables": {"x": 1}, "enabled": True}],
}


def test_an_export_contains_its_valid_flows_and_what_they_use(tmp_path):
    loaded = load_file(write(tmp_path, "export.json", json.dumps(EXPORT, indent=1)))
    assert loaded.kind is FileKind.EXPORT
    assert [source.flow.id for source in loaded.flows] == ["one", "two"]
    assert [source.path for source in loaded.flows] == [("flows", 0), ("flows", 2)]
    assert loaded.flows[1].line > loaded.flows[0].line > 1
    assert loaded.broken_flow_ids == ("broken",)
    assert [problem.path for problem in loaded.problems] == ["$.flows[1].steps.a.stepType"]
    bundle = loaded.flows[0].bundle
    assert bundle is loaded.bundle
    assert [prompt.id for prompt in bundle.prompts] == ["p"]
    assert bundle.connections[0].authentication.type == "API_KEY"
    assert bundle.agents[0].flow_variables == {"x": 1}


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
    assert loaded.problems == ()
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


def test_files_are_found_in_a_stable_order_without_hidden_ones(tmp_path):
    for name in ("b.json", "a/z.json", "a.prompt.json", ".hidden.json", ".git/x.json", "notes.txt", "B.JSON"):
        write(tmp_path, name, "{}")
    assert [file.path.removeprefix(f"{tmp_path}/") for file in find_files(tmp_path).files] == [
        "a.prompt.json",
        "b.json",
        "a/z.json",
    ]


def test_a_broken_file_leaves_the_others_alone(tmp_path):
    write(tmp_path, "bad.json", "{")
    write(tmp_path, "good.json", flow("good"))
    folder = load_folder(tmp_path)
    assert [source.flow.id for source in folder.flows] == ["good"]
    assert [problem.file for problem in folder.problems] == [str(tmp_path / "bad.json")]


def sources(tmp_path, *flows):
    for index, one in enumerate(flows):
        write(tmp_path, f"{index}.json", one)
    return load_folder(tmp_path)


def test_the_published_version_with_the_highest_number_runs(tmp_path):
    folder = sources(
        tmp_path,
        flow(version=2),
        flow(version=10, isPublished=True),
        flow(version=11, isPublished=False),
        flow(version=9),
    )
    assert [source.flow.version for source in folder.flows] == [10]
    assert folder.problems == ()


def test_a_flow_without_a_published_version_does_not_run_and_says_so(tmp_path):
    folder = sources(
        tmp_path, flow(version=1, isPublished=False), flow(version=2, isPublished=False), flow("other")
    )
    assert [source.flow.id for source in folder.flows] == ["other"]
    (problem,) = folder.problems
    assert problem.file.endswith("1.json")
    assert str(problem.severity) == "warning"
    assert "no version of flow `shop` is published" in problem.message


def test_the_same_version_in_two_files_is_an_error_that_names_both(tmp_path):
    folder = sources(tmp_path, flow(name="kept"), flow(name="refused"))
    assert [source.flow.name for source in folder.flows] == ["kept"]
    (problem,) = folder.problems
    assert problem.is_error
    assert problem.file.endswith("1.json")
    assert "0.json:1" in problem.message


def test_the_same_version_twice_in_one_export_is_an_error(tmp_path):
    path = write(tmp_path, "export.json", {"formatVersion": "1.0", "flows": [flow(name="kept"), flow()]})
    selection = select_flows(load_file(path).flows)
    assert [source.flow.name for source in selection.flows] == ["kept"]
    assert [problem.path for problem in selection.problems] == ["$.flows[1]"]


@given(order=st.permutations(range(4)))
def test_which_flows_run_does_not_depend_on_the_order_of_files(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("flows")
    loaded = sources(folder, flow(), flow(name="again"), flow(version=2, isPublished=False), flow("other"))
    all_sources = [source for one in loaded.files for source in one.flows]
    selection = select_flows(all_sources[index] for index in order)
    assert selection.flows == loaded.flows
    assert selection.problems == select_flows(all_sources).problems


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "id",
                        "steps",
                        "startStepInstanceId",
                        "stepType",
                        "a",
                        "onError",
                        "transitions",
                        "condition",
                    ),
                    *(
                        "parallelBranches",
                        "branchId",
                        "stepInstanceId",
                        "formatVersion",
                        "flows",
                        "stepDefinitions",
                    ),
                    *(
                        "inputMappings",
                        "outputMappings",
                        "literals",
                        "customConfig",
                        "airflow",
                        "delay",
                        "version",
                    ),
                    *(
                        "defaultStepConfig",
                        "defaultErrorHandler",
                        "stepDefinitionId",
                        "promptTemplates",
                        "content",
                    ),
                    *(
                        "aggregationConfig",
                        "nextStepInstanceId",
                        "requiredFields",
                        "tools",
                        "mediaAttachments",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
STEP = st.dictionaries(
    st.sampled_from(
        ["onError", "delay", "transitions", "parallelBranches", "inputMappings", "moduleIdentifier", "to"]
    ),
    ANY_JSON,
    max_size=4,
).flatmap(lambda fields: st.sampled_from(sorted(StepType)).map(lambda kind: {"stepType": kind, **fields}))


def assert_problems_are_located(loaded):
    assert loaded.flows or loaded.problems or loaded.bundle != Bundle()
    for problem in loaded.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.path.startswith("$")
        assert "\n" not in str(problem)


RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@RELAXED
@given(value=ANY_JSON)
def test_any_json_value_is_loaded_or_rejected_with_located_problems(tmp_path, value):
    loaded = load_file(write(tmp_path, "any.json", json.dumps(value)), EXPRESSIONS_AND_STEPS)
    if loaded.kind is not FileKind.EXPORT:
        assert_problems_are_located(loaded)


@RELAXED
@given(step=STEP, own=ANY_JSON)
def test_any_step_is_loaded_or_rejected_with_located_problems(tmp_path, step, own):
    steps = {"a": step, "b": {"stepType": "PARALLEL_FORK_MANAGER", "parallelBranches": [{"steps": own}]}}
    path = write(tmp_path, "any.json", json.dumps(flow(steps=steps, defaultStepConfig=own)))
    assert_problems_are_located(load_file(path, EXPRESSIONS_AND_STEPS))


@RELAXED
@given(value=ANY_JSON)
def test_any_value_in_an_export_is_loaded_or_rejected_with_located_problems(tmp_path, value):
    for part in ("flows", "stepDefinitions", "promptTemplates", "mcpConnections", "agents"):
        path = write(tmp_path, "any.json", json.dumps({"formatVersion": "1.0", part: [value]}))
        for problem in load_file(path, EXPRESSIONS).problems:
            assert problem.line >= 1
            assert problem.path.startswith("$")


@RELAXED
@given(data=st.binary(max_size=60), name=st.sampled_from(["x.json", "x.prompt.json"]))
def test_any_bytes_are_loaded_or_rejected_with_located_problems(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    assert_problems_are_located(load_file(path, EXPRESSIONS))
