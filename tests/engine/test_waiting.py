"""Runs that wait for events: suspended, serialized, continued."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_allma.engine import RunState, SegmentResult, SegmentStatus, Services, run_segment
from airflow_allma.engine.steps.wait_for_event import MAX_KEY
from airflow_allma.engine.suspension import Answers, SuspendReason
from tests.support.engine import INFO, Json, compose, fork, noop, program_of, then

KEY = {"correlationKeyTemplate": "order:{{id}}"}
START = 1_000_000.0


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


def wait(**fields: Any) -> Json:
    return {"stepType": "WAIT_FOR_EXTERNAL_EVENT", **KEY, **fields}


class Waiting:
    """A run of a flow that is suspended and continued, each time from its state as JSON."""

    def __init__(self, steps: dict[str, Json], payload: Json, **fields: Any) -> None:
        self.program = program_of(steps, **fields)
        self.clock = Clock()
        self.answers = Answers()
        self.state: Any = self.program.start_state(payload, "run-1").to_dict()

    def go_on(self, **events: Any) -> SegmentResult:
        for key, payload in events.items():
            self.answers.put(SuspendReason.EVENT, key.replace("_", ":"), {"payload": payload})
        services = Services(answers=self.answers, now=self.clock, sleep=self.clock.sleep)
        state = RunState.from_dict(json.loads(json.dumps(self.state)))
        result = asyncio.run(run_segment(self.program, state, INFO, services))
        self.state = result.state.to_dict()
        return result

    def keys(self, result: SegmentResult) -> list[str]:
        return [wait.key for wait in result.waits]


def test_a_run_waits_until_its_event_arrives_and_maps_the_payload():
    run = Waiting({"w": wait(outputMappings={"$.answer": "$."}, **then("after")), "after": noop()}, {"id": 7})
    first = run.go_on()
    assert (first.status, run.keys(first), first.state.path) == (SegmentStatus.SUSPENDED, ["order:7"], [])
    assert run.keys(run.go_on()) == ["order:7"]  # too early is harmless
    done = run.go_on(order_7={"ok": True})
    assert (done.status, done.state.path) == (SegmentStatus.COMPLETED, ["w", "after"])
    assert done.state.context["answer"] == {"ok": True}


def test_the_payload_is_the_output_when_nothing_is_mapped():
    run = Waiting({"w": wait()}, {"id": 1})
    run.go_on()
    assert run.go_on(order_1={"a": 1}).state.context["steps_output"]["w"] == {"a": 1}


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [
        (None, ("FAILED", ["w"])),
        ({"continueOnFailure": True}, ("COMPLETED", ["w", "after"])),
        ({"fallbackStepInstanceId": "other"}, ("COMPLETED", ["w", "other"])),
    ],
)
def test_a_wait_that_is_over_is_an_error_of_the_step(on_error, expected):
    on_error_field = {"onError": on_error} if on_error else {}
    steps = {
        "w": wait(maxWaitTimeSeconds=60, **on_error_field, **then("after")),
        "after": noop(),
        "other": noop(),
    }
    run = Waiting(steps, {"id": 1})
    deadline = run.go_on().waits[0].until
    assert deadline == START + 60
    run.clock.seconds = deadline
    ended = run.go_on()
    assert (ended.status.value, ended.state.path) == expected
    if on_error is None:
        assert ended.error["errorName"] == "WaitTimeout"
        assert ended.error["isRetryable"] is True


def test_a_retry_waits_anew_as_often_as_the_flow_says():
    run = Waiting({"w": wait(maxWaitTimeSeconds=60, onError={"retries": {"count": 2}})}, {"id": 1})
    deadlines = []
    while (result := run.go_on()).status is SegmentStatus.SUSPENDED:
        deadlines.append(result.waits[0].until)
        run.clock.seconds = deadlines[-1]
    assert len(deadlines) == 3
    assert result.error["errorName"] == "WaitTimeout"


@pytest.mark.parametrize("payload", [{}, {"id": ""}, {"id": None}])
def test_a_key_without_its_value_fails_the_step(payload):
    failed = Waiting({"w": wait()}, payload).go_on()
    assert failed.error["errorName"] == "PermanentStepError"
    assert "must render to a key" in failed.error["errorMessage"]


def test_a_key_has_a_limit():
    steps = {"w": wait(correlationKeyTemplate="{{id}}")}
    assert Waiting(steps, {"id": "x" * MAX_KEY}).go_on().status is SegmentStatus.SUSPENDED
    failed = Waiting(steps, {"id": "x" * (MAX_KEY + 1)}).go_on()
    assert f"has {MAX_KEY + 1} characters; at most {MAX_KEY} are allowed" in failed.error["errorMessage"]


def test_two_runs_with_one_key_are_an_error_of_the_later():
    run = Waiting({"w": wait()}, {"id": 1})
    run.go_on()
    run.answers.put(SuspendReason.EVENT, "order:1", {"conflict": True})
    failed = run.go_on()
    assert failed.error["errorName"] == "PermanentStepError"
    assert "waits for the key 'order:1' already" in failed.error["errorMessage"]


def test_a_loop_waits_for_the_same_key_again_and_again():
    steps = {
        "w": wait(
            outputMappings={"$.answer": "$"},
            transitions=[{"condition": "$.answer.again == true", "nextStepInstanceId": "w"}],
        )
    }
    run = Waiting(steps, {"id": 1})
    run.go_on()
    assert run.go_on(order_1={"again": True}).status is SegmentStatus.SUSPENDED
    assert run.go_on(order_1={"again": False}).state.path == ["w", "w"]


def items_flow(**fork_fields: Any) -> dict[str, Json]:
    return {
        "f": fork("before", **fork_fields),
        "before": compose(inputMappings={"n": "$.currentItem"}, outputMappings={"$.n": "$.n"}, **then("w")),
        "w": wait(correlationKeyTemplate="item:{{n}}", outputMappings={"$.answer": "$."}, **then("last")),
        "last": compose(inputMappings={"n": "$.n", "answer": "$.answer.v"}),
    }


def test_a_fork_waits_for_the_events_of_all_items_and_keeps_what_has_ended():
    run = Waiting(items_flow(), {"items": [1, 2, 3]})
    assert run.keys(run.go_on()) == ["item:1", "item:2", "item:3"]
    assert run.keys(run.go_on(item_3={"v": "c"})) == ["item:1", "item:2"]
    done = run.go_on(item_1={"v": "a"}, item_2={"v": "b"})
    assert done.state.context["steps_output"]["f"]["aggregatedData"] == [
        {"n": n, "answer": v} for n, v in [(1, "a"), (2, "b"), (3, "c")]
    ]


def test_one_item_of_a_fork_that_waits_too_long_fails_alone():
    steps = items_flow(config={"failOnBranchError": False})
    steps["w"]["maxWaitTimeSeconds"] = 30
    run = Waiting(steps, {"items": [1, 2]})
    run.go_on()
    run.go_on(item_1={"v": "a"})
    run.clock.seconds += 30
    first, second = run.go_on().state.context["steps_output"]["f"]["aggregatedData"]
    assert first == {"n": 1, "answer": "a"}
    assert second["error"]["errorName"] == "WaitTimeout"
    assert second["error"]["errorDetails"]["itemIndex"] == 1


def test_forks_in_forks_wait():
    steps = {
        "f": fork("inner"),
        "inner": fork("w", items="$.currentItem"),
        "w": wait(correlationKeyTemplate="item:{{currentItem}}"),
    }
    run = Waiting(steps, {"items": [["a", "b"], ["c"]]})
    assert run.keys(run.go_on()) == ["item:a", "item:b", "item:c"]
    run.go_on(item_a={"v": 1}, item_c={"v": 3})
    done = run.go_on(item_b={"v": 2})
    assert done.state.context["steps_output"]["f"]["aggregatedData"] == [
        {"aggregatedData": [{"v": 1}, {"v": 2}]},
        {"aggregatedData": [{"v": 3}]},
    ]


def test_a_batch_that_waits_continues_as_the_same_batch():
    steps = {
        "f": fork("w", itemBatcher={"maxItemsPerBatch": 2, "batchInput": {"n": "$.n"}}),
        "w": wait(correlationKeyTemplate="item:{{currentItem.items.0}}", **then("x")),
        "x": compose(inputMappings={"v": "$.currentItem"}),
    }
    run = Waiting(steps, {"items": ["a", "b", "c"], "n": 9})
    assert run.keys(run.go_on()) == ["item:a", "item:c"]
    run.go_on(item_c={})
    done = run.go_on(item_a={})
    assert done.state.context["steps_output"]["f"]["aggregatedData"] == [
        {"v": {"items": ["a", "b"], "batchInput": {"n": 9}}},
        {"v": {"items": ["c"], "batchInput": {"n": 9}}},
    ]


def test_places_are_given_back_while_items_wait():
    run = Waiting(items_flow(config={"maxConcurrency": 1}), {"items": list(range(50))})
    assert len(run.go_on().waits) == 50
