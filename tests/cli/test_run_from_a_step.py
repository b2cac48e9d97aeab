from __future__ import annotations

import json

import pytest

from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import compose, fork, noop, then

STEPS = {
    "a": compose(inputMappings={"n": "$.n"}, **then("b")),
    "b": compose(inputMappings={"from_a": "$.steps_output.a.n"}, **then("c")),
    "c": compose(inputMappings={"from_b": "$.steps_output.b.from_a", "var": "$.flow_variables.v"}),
}
FLOW = flow_document(STEPS, flowVariables={"v": 1})


@pytest.fixture
def file(tmp_path):
    return write_file(tmp_path, "f.json", FLOW)


@pytest.mark.parametrize("context", ['{"steps_output": {"a": {"n": 5}}}', None])
def test_one_step_runs_alone_and_its_output_and_the_next_step_are_shown(file, tmp_path, context):
    given = context
    if given is None:  # what a run of the step before has printed
        given = write_file(
            tmp_path, "a.json", run_cli("run", file, "--step", "a", "--payload", '{"n": 5}').out
        )
    answer = run_cli("run", file, "--step", "b", "--context", given).json
    assert (answer["status"], answer["error"], answer["path"]) == ("COMPLETED", None, ["b"])
    assert (answer["output"], answer["next"]) == ({"from_a": 5}, "c")
    assert answer["context"]["steps_output"]["b"] == {"from_a": 5}


def test_the_last_step_has_no_next_one(file):
    answer = run_cli("run", file, "--step", "c").json
    assert (answer["output"], answer["next"]) == ({"var": 1}, None)


def test_a_step_that_leads_back_to_itself_runs_once(tmp_path):
    file = write_file(tmp_path, "f.json", flow_document({"a": noop(**then("a"))}))
    answer = run_cli("run", file, "--step", "a").json
    assert (answer["path"], answer["next"]) == (["a"], "a")


def test_a_step_without_work_ends_the_path(tmp_path):
    file = write_file(
        tmp_path, "f.json", flow_document({"a": noop(**then("e")), "e": {"stepType": "END_FLOW"}})
    )
    answer = run_cli("run", file, "--step", "e").json
    assert (answer["status"], answer["output"], answer["next"]) == ("COMPLETED", None, None)


def test_a_step_that_fails_alone_is_retried_as_it_says_and_exits_with_1(tmp_path):
    call = {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": "none"},
        "onError": {"retries": {"count": 1, "intervalSeconds": 1}},
    }
    file = write_file(tmp_path, "f.json", flow_document({"a": noop(**then("b")), "b": call}))
    result = run_cli("run", file, "--step", "b", "--trace")
    assert (result.code, result.json["status"], result.json["next"]) == (1, "FAILED", None)
    assert result.json["error"]["errorDetails"]["failedStepInstanceId"] == "b"


def test_a_run_can_start_at_a_step(file, tmp_path):
    context = write_file(tmp_path, "c.json", {"steps_output": {"a": {"n": 7}}, "flow_variables": {"v": 2}})
    answer = run_cli("run", file, "--from", "b", "--context", context).json
    assert answer["path"] == ["b", "c"]
    assert answer["context"]["steps_output"]["c"] == {"from_b": 7, "var": 2}
    assert "output" not in answer


def test_a_run_can_start_at_a_step_with_a_payload(file):
    answer = run_cli("run", file, "--from", "a", "--payload", '{"n": 3}').json
    assert answer["path"] == ["a", "b", "c"]
    assert answer["context"]["initialContextData"] == {"n": 3}


OWN_STEPS = {
    "branchId": "b",
    "stepInstanceId": "first",
    "steps": {
        "first": compose(inputMappings={"item": "$.currentItem"}, **then("second")),
        "second": compose(inputMappings={"item": "$.steps_output.first.item"}),
    },
}


def test_a_step_of_a_branch_can_run_with_an_item(tmp_path):
    file = write_file(tmp_path, "f.json", flow_document({"fan": fork(parallelBranches=[OWN_STEPS])}))
    alone = run_cli("run", file, "--step", "first", "--context", '{"currentItem": {"id": 1}}').json
    assert (alone["output"], alone["next"]) == ({"item": {"id": 1}}, "second")
    onward = run_cli("run", file, "--from", "first", "--context", '{"currentItem": 8}').json
    assert (onward["path"], onward["context"]["steps_output"]["second"]) == (["first", "second"], {"item": 8})


def test_a_whole_fork_is_one_step(tmp_path):
    file = write_file(tmp_path, "f.json", flow_document({"fan": fork(parallelBranches=[OWN_STEPS])}))
    answer = run_cli("run", file, "--step", "fan", "--context", '{"items": [1, 2]}').json
    assert answer["output"] == {"aggregatedData": [{"item": 1}, {"item": 2}]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "total"], "--step: the flow has no step 'total'; steps: a, b, c"),
        (["--from", "A"], "--from: the flow has no step 'A'; did you mean 'a'?"),
        (["--step", "a", "--from", "b"], "--step runs one step, --from all that follow; use one of them"),
        (["--context", "{}"], "--context is the data at a step; name it with --step or --from"),
        (["--step", "a", "--context", "{}", "--payload", "{}"], "use one of --context and --payload"),
        (
            ["--step", "a", "--context", "none.json"],
            "--context none.json is neither a JSON object nor a file",
        ),
        (["--step", "a", "--context", "[1]"], "--context must be a JSON object"),
    ],
)
def test_options_that_do_not_fit_exit_with_2_and_say_why(file, options, message):
    result = run_cli("run", file, *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_step_of_several_branches_cannot_be_named(tmp_path):
    branches = [{**OWN_STEPS, "branchId": name} for name in ("b", "c")]
    file = write_file(tmp_path, "f.json", flow_document({"fan": fork(parallelBranches=branches)}))
    result = run_cli("run", file, "--step", "first")
    assert (result.code, result.out) == (2, "")
    assert "--step: 2 branches have a step 'first'" in result.err


def test_a_pretty_result_is_the_same_and_indented(file):
    plain = run_cli("run", file, "--from", "b", "--context", '{"flow_variables": {"flowExecutionId": "x"}}')
    pretty = run_cli(
        "run", file, "--pretty", "--from", "b", "--context", '{"flow_variables": {"flowExecutionId": "x"}}'
    )
    assert json.loads(pretty.out) == plain.json
    assert pretty.out.startswith('{\n  "status": "COMPLETED",\n')
