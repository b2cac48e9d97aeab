"""START_FLOW_EXECUTION without `sync`: which run it starts, with which payload."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_allma.engine.flow_runs import StartRequest
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.engine import INFO, FlowResult, Json, compose, fork, noop, run, then
from tests.support.started_runs import FakeRuns

UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
PAYLOAD = {"cart": {"total": 5, "lines": [1, 2]}, "child": "vat-calc", "version": 3, "none": None}


def start(**fields: Any) -> Json:
    return {
        "stepType": "START_FLOW_EXECUTION",
        "moduleIdentifier": "system/start-flow-execution",
        "flowDefinitionId": "child",
        **fields,
    }


def run_start(step: Json, runs: FakeRuns | None = None, **services: Any) -> tuple[FlowResult, FakeRuns]:
    runs = runs or FakeRuns()
    return run({"start": step}, PAYLOAD, runs=runs, **services), runs


def request_of(step: Json) -> StartRequest:
    ended, runs = run_start(step)
    assert ended.status == "COMPLETED", ended.error
    (request,) = runs.requests
    return request


PAYLOADS = {
    "without an input, nothing": ({}, {}),
    "the input": ({"inputMappings": {"net": "$.cart.total"}}, {"net": 5}),
    "initialContextData": ({"inputMappings": {"initialContextData.net": "$.cart.total"}}, {"net": 5}),
    "a whole initialContextData": ({"inputMappings": {"initialContextData": "$.cart"}}, PAYLOAD["cart"]),
    "both": (
        {"inputMappings": {"initialContextData.a": "$.cart.total", "a": "$.child", "b": "$.child"}},
        {"a": 5, "b": "vat-calc"},
    ),
    "literals": ({"literals": {"x.y": "{{child}}!"}}, {"x": {"y": "vat-calc!"}}),
    "the rendered custom config": (
        {"customConfig": {"initialContextData": {"n": "$.cart.total", "t": "{{child}}"}, "other": 1}},
        {"n": 5, "t": "vat-calc", "other": 1},
    ),
    "the input before the custom config": (
        {"customConfig": {"a": 1, "b": 2}, "literals": {"a": 3}},
        {"a": 3, "b": 2},
    ),
    "null": ({"inputMappings": {"initialContextData": "$.none"}}, {}),
    "no fields that are about the run": (
        {
            "customConfig": {"sync": False},
            "literals": {"flowVersion": "2", "triggerSource": "x", "flowExecutionId": UUID, "n": 1},
        },
        {"n": 1},
    ),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_payload_is(name):
    fields, payload = PAYLOADS[name]
    assert request_of(start(**fields)).payload == payload


FLOWS = {
    "as written": ({}, "child", "LATEST_PUBLISHED"),
    "a template": ({"flowDefinitionId": "{{child}}", "flowVersion": "{{version}}"}, "vat-calc", "3"),
    "of the custom config": (
        {"flowDefinitionId": None, "customConfig": {"flowDefinitionId": "{{child}}", "flowVersion": "2"}},
        "vat-calc",
        "2",
    ),
    "of the input": (
        {
            "flowDefinitionId": None,
            "inputMappings": {"flowDefinitionId": "$.child", "flowVersion": "$.version"},
        },
        "vat-calc",
        "3",
    ),
    "the step's own before the input": (
        {"literals": {"flowDefinitionId": "other"}},
        "child",
        "LATEST_PUBLISHED",
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_the_flow_is(name):
    fields, flow_id, version = FLOWS[name]
    request = request_of({key: value for key, value in start(**fields).items() if value is not None})
    assert (request.flow_id, request.version) == (flow_id, version)


def test_the_output_names_the_run():
    ended, runs = run_start(start(literals={"flowExecutionId": UUID}))
    (key,) = runs.started
    assert ended.outputs["start"] == {
        "startedFlowExecutionId": UUID,
        "dagId": "child",
        "runId": f"allma__{key[:32]}",
        "sqsMessageId": None,
    }


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), (True, True), ("false", False), ("True", True)]
)
def test_execution_logs_are_on_if_the_flow_says_so(given, expected):
    literals = {} if given is None else {"enableExecutionLogs": given}
    assert request_of(start(literals=literals)).enable_execution_logs is expected


def test_the_request_says_where_the_run_comes_from():
    request = request_of(start(literals={"triggerSource": "nightly"}))
    assert request.trigger_source == "ParentFlow:run-1:start -> nightly"
    assert (request.parent, request.step_id, request.kind.value) == (INFO, "start", "ASYNC_SUBFLOW")
    assert request_of(start()).trigger_source == "ParentFlow:run-1:start -> Unknown"


BAD = {
    "no flow": ({"flowDefinitionId": "{{nothing}}"}, "`flowDefinitionId` is missing or empty"),
    "a flow that is a number": (
        {"flowDefinitionId": None, "customConfig": {"flowDefinitionId": "$.version"}},
        "`flowDefinitionId` must be a string; it is a number",
    ),
    "a version in words": ({"flowVersion": "newest"}, "it is 'newest'"),
    "version 0": ({"flowVersion": "0"}, "it is '0'"),
    "a payload that is a list": (
        {"inputMappings": {"initialContextData": "$.cart.lines"}},
        "`initialContextData` must be an object; it is a list",
    ),
    "an id that is not a UUID": ({"literals": {"flowExecutionId": "mine"}}, "must be a UUID; it is 'mine'"),
    "overrides": ({"literals": {"executionOverrides": {}}}, "`executionOverrides` is not supported"),
    "logs in words": ({"literals": {"enableExecutionLogs": "yes"}}, "must be true or false"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_permanent_error(name):
    fields, message = BAD[name]
    step = {key: value for key, value in start(**fields).items() if value is not None}
    ended, runs = run_start(step)
    assert (ended.status, ended.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert message in ended.error["errorMessage"]
    assert not runs.requests


def test_without_a_starter_the_step_fails():
    ended = run({"start": start()}, PAYLOAD)
    assert "which is not possible here" in ended.error["errorMessage"]


def test_fields_without_effect_are_logged(caplog):
    request = request_of(start(literals={"notificationConfig": {}, "depth": 3, "n": 1}))
    assert request.payload == {"n": 1}
    assert "Step start: depth, notificationConfig has no effect" in caplog.text


def test_a_start_that_fails_is_repeated_with_the_same_key():
    failures = [TransientStepError("busy"), TransientStepError("busy")]

    def refuse(_: StartRequest) -> None:
        if failures:
            raise failures.pop()

    ended, runs = run_start(start(), FakeRuns(refuse=refuse))
    assert ended.status == "COMPLETED"
    assert (len(runs.requests), len({request.key for request in runs.requests})) == (3, 1)


def test_on_error_applies_to_a_flow_that_cannot_be_started():
    def refuse(_: StartRequest) -> None:
        raise PermanentStepError("paused")

    ended, _ = run_start(start(onError={"continueOnFailure": True}), FakeRuns(refuse=refuse))
    assert ended.outputs["start"]["errorMessage"] == "paused"


def test_each_visit_in_a_loop_starts_a_run_of_its_own():
    runs = FakeRuns()
    steps = {
        "start": start(**then("again")),
        "again": noop(
            transitions=[{"condition": "$.n > 100", "nextStepInstanceId": "end"}],
            **then("start", defaultNextMaxTransitions=2),
        ),
        "end": noop(),
    }
    ended = run(steps, {"n": 1}, runs=runs)
    assert "was taken more than 2 times" in ended.error["errorMessage"]
    assert (len(runs.requests), len(runs.started)) == (3, 3)


def test_each_item_starts_a_run_of_its_own_also_in_forks_inside_of_forks():
    runs = FakeRuns()
    inner = fork("start", "$.currentItem.list")
    steps = {"outer": fork("inner"), "inner": inner, "start": start(), "unused": compose()}
    del steps["unused"]
    items = [{"list": [1, 2]}, {"list": [1, 2]}]
    ended = run(steps, {"items": items}, runs=runs)
    assert ended.status == "COMPLETED", ended.error
    assert (len(runs.requests), len(runs.started)) == (4, 4)


def test_the_same_run_again_starts_the_same_runs():
    runs = FakeRuns()
    for _ in range(2):
        run({"fork": fork("start"), "start": start()}, {"items": [1, 2, 3]}, runs=runs)
    assert (len(runs.requests), len(runs.started)) == (6, 3)
