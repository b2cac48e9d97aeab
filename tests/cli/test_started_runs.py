"""Runs that steps start, on the command line: one after another, after the run itself."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import run_cli, write_file
from tests.support.engine import compose, fork, noop, then


def start(flow_id="child", **fields):
    return {
        "stepType": "START_FLOW_EXECUTION",
        "moduleIdentifier": "system/start-flow-execution",
        "flowDefinitionId": flow_id,
        **fields,
    }


def document(flow_id, steps, **more):
    return {"id": flow_id, "startStepInstanceId": next(iter(steps)), "steps": steps, **more}


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the first of some flows: the result, and the lines about others."""

    def run(*documents, payload=None, options=()):
        for number, one in enumerate(documents):
            write_file(tmp_path, f"{number}.json", one)
        result = run_cli("run", tmp_path / "0.json", "--payload", json.dumps(payload or {}), *options)
        lines = [json.loads(line) for line in result.err.splitlines() if line.startswith('{"startedRun"')]
        return result, lines

    return run


CHILD = document("child", {"c": compose(inputMappings={"n": "$.n"})}, version=3)


def test_they_run_after_the_run_and_a_line_says_how_they_ended(run):
    parent = document("parent", {"s": start(literals={"n": 1}, **then("e")), "e": noop()})
    result, lines = run(parent, CHILD)
    assert (result.code, result.json["status"], result.json["path"]) == (0, "COMPLETED", ["s", "e"])
    started = result.json["context"]["steps_output"]["s"]
    assert lines == [
        {"startedRun": started["runId"], "flow": "child", "version": 3, "status": "COMPLETED", "error": None}
    ]


def test_each_item_starts_a_run_also_in_chunks(run):
    parent = document("parent", {"f": fork("s"), "s": start(inputMappings={"n": "$.currentItem"})})
    for options in ((), ("--chunks",)):
        _, lines = run(parent, CHILD, payload={"items": [1, 2, 3]}, options=options)
        assert len({line["startedRun"] for line in lines}) == 3


def test_they_start_runs_of_their_own_until_the_depth_is_reached(run):
    parent = document("parent", {"s": start("parent")})
    result, lines = run(parent)
    assert (result.code, len(lines)) == (0, 50)
    assert {line["status"] for line in lines[:-1]} == {"COMPLETED"}
    assert "nested more than 50 deep" in lines[-1]["error"]["errorMessage"]


def test_their_failure_does_not_change_the_exit_code(run):
    bad = document("child", {"c": {**compose(), "outputValidation": {"requiredFields": ["$.x"]}}})
    result, lines = run(document("parent", {"s": start()}), bad)
    assert (result.code, lines[0]["status"]) == (0, "FAILED")
    assert lines[0]["error"]["errorName"] == "ContentBasedRetryableError"


def test_a_payload_that_does_not_match_fails_the_started_run(run):
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    child = document("child", {"c": noop()}, airflow={"inputSchema": schema})
    _, lines = run(document("parent", {"s": start()}), child)
    assert (lines[0]["status"], lines[0]["error"]["errorName"]) == ("FAILED", "PayloadError")


def test_an_unknown_flow_is_an_error_of_the_step(run):
    result, lines = run(document("parent", {"s": start("chidl")}), CHILD)
    assert (result.code, lines) == (1, [])
    assert "'child'" in result.json["error"]["errorMessage"]


def test_a_run_that_waits_for_an_event_says_so(run):
    wait = {"stepType": "WAIT_FOR_EXTERNAL_EVENT", "correlationKeyTemplate": "order:{{n}}"}
    child = document("child", {"w": wait})
    parent = document("parent", {"s": start(literals={"n": 7})})
    _, lines = run(parent, child)
    assert (lines[0]["status"], lines[0]["waitsFor"]) == ("SUSPENDED", ["order:7"])
    _, lines = run(parent, child, options=("--event", 'order:7={"ok": true}'))
    assert lines[0]["status"] == "COMPLETED"


def test_a_run_of_its_own_is_part_of_the_step(run):
    step = {"stepType": "START_SUB_FLOW", "subFlowDefinitionId": "child", "airflow": {"ownRun": True}}
    result, lines = run(document("parent", {"s": {**step, "literals": {"n": 5}}}), CHILD)
    assert (result.code, lines) == (0, [])
    assert result.json["context"]["steps_output"]["s"]["steps_output"]["c"] == {"n": 5}


def test_too_many_runs_are_an_error_of_the_step_that_starts_them(run):
    parent = document("parent", {"f": fork("s", config={"failOnBranchError": False}), "s": start()})
    result, lines = run(parent, CHILD, payload={"items": list(range(1_001))})
    assert (result.code, len(lines)) == (0, 1_000)
    failed = [one for one in result.json["context"]["steps_output"]["f"]["aggregatedData"] if "error" in one]
    assert [("starts more than 1000 runs" in one["error"]["errorMessage"]) for one in failed] == [True]
