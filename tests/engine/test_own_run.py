"""Steps that wait for a flow in a run of its own: they suspend until it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_allma.engine import RunState, SegmentResult, run_segment
from airflow_allma.engine.flow_runs import RunOutcome
from airflow_allma.engine.suspension import SuspendReason
from tests.support.engine import INFO, Fakes, Json, noop, program_of, then
from tests.support.started_runs import FakeRuns


def own_run(**fields: Any) -> Json:
    step = {"stepType": "START_SUB_FLOW", "subFlowDefinitionId": "child", "airflow": {"ownRun": True}}
    return {**step, "inputMappingsToSubFlow": {"n": "$.n"}, **fields}


def drive(runs: FakeRuns, state: RunState | None = None, step: Json | None = None) -> SegmentResult:
    """Run the flow once, from the state that it was saved in."""
    program = program_of({"s": step or own_run(**then("e")), "e": noop()})
    saved = state and RunState.from_dict(state.to_dict())
    begin = saved or program.start_state({"n": 3}, INFO.flow_execution_id)
    services = Fakes().services(runs=runs)
    return asyncio.run(run_segment(program, begin, INFO, services))


def test_the_step_suspends_until_the_run_has_ended():
    ended: list[RunOutcome] = []
    runs = FakeRuns(ends=lambda _: ended[0] if ended else None)
    first = drive(runs)
    (wait,) = first.waits
    assert (first.status.value, wait.reason, wait.until) == ("SUSPENDED", SuspendReason.RUN, 0)
    assert (wait.details["dagId"], wait.details["runId"]) == ("child", wait.key)
    too_early = drive(runs, first.state)
    assert too_early.waits == first.waits
    ended.append(RunOutcome({"out": 1}))
    last = drive(runs, too_early.state)
    assert (last.status.value, last.state.context["steps_output"]["s"]) == ("COMPLETED", {"out": 1})
    (request,) = runs.requests
    assert (request.payload, request.kind.value) == ({"n": 3}, "SYNC_SUBFLOW")


ERROR = {
    "errorName": "TransientStepError",
    "errorMessage": "503",
    "errorDetails": {"failedStepInstanceId": "call"},
    "isRetryable": True,
}


def test_the_error_of_the_run_is_the_steps_and_is_not_repeated_in_the_task():
    runs = FakeRuns(ends=lambda _: RunOutcome(error=ERROR))
    failed = drive(runs)
    error = failed.error or {}
    assert (failed.status.value, error["errorName"]) == ("FAILED", "TransientStepError")
    assert len(runs.requests) == 1
    where = error["errorDetails"]["subFlow"]
    assert (where["dagId"], where["failedStepInstanceId"]) == ("child", "call")


def test_retries_of_the_step_ask_for_the_same_run_again():
    outcomes = [RunOutcome(error=ERROR), RunOutcome({"out": 2})]
    runs = FakeRuns(ends=lambda _: outcomes.pop(0))
    step = own_run(onError={"retries": {"count": 1, "intervalSeconds": 1}})
    done = drive(runs, step=step)
    assert done.status.value == "COMPLETED"
    assert (len(runs.requests), len(runs.started)) == (2, 1)


@pytest.mark.parametrize("runs", [None, FakeRuns(waits=False)], ids=["no runs", "no waiting"])
def test_where_no_run_can_be_waited_for_the_flow_runs_in_the_process(runs):
    failed = drive(runs)
    assert "was loaded without a folder of flows" in (failed.error or {})["errorMessage"]
