"""Chunks whose items wait: parked, continued for the events that came, and complete in the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.distributed.fork_decision import decide_fork
from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import (
    EngineSettings,
    ForkItems,
    RunState,
    SegmentResult,
    SegmentStatus,
    Services,
    run_segment,
)
from airflow_allma.engine.suspension import Answers, SuspendReason
from airflow_allma.engine.tracing import Tracer
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.support.engine import INFO, Json, compose, fork, noop, program_of, then

LOCATION = OffloadLocation("bucket", "offload")
START = 1_000_000.0
MANIFEST = {"bucket": "bucket", "key": "m.jsonl"}


def wait(key: str = "item:{{currentItem.n}}", **fields: Any) -> Json:
    return {"stepType": "WAIT_FOR_EXTERNAL_EVENT", "correlationKeyTemplate": key, **fields}


def steps(**fork_fields: Any) -> dict[str, Json]:
    """Return a fork whose items wait and then return the event's payload."""
    return {
        "fan": fork("w", **fork_fields),
        "w": wait(outputMappings={"$.answer": "$"}, **then("last")),
        "last": compose(inputMappings={"n": "$.currentItem.n", "v": "$.answer.v"}),
    }


class ChunkedRun:
    """A run of a flow whose fork runs in chunks; each ``go_on`` could be another process."""

    def __init__(
        self, flow: dict[str, Json], items: list[Any], *, manifest: bool = True, offload: bool = True
    ) -> None:
        self.program = program_of(flow)
        self.store = MemoryStore()
        self.write(items)
        self.answers = Answers()
        self.tracer: Tracer | None = None
        self.flows: Any = None
        self.seconds = START
        self.settings = EngineSettings(
            offload_location=LOCATION if offload else None, output_offload_bytes=1 << 30
        )
        options = AirflowOptions(max_in_memory_items=1, chunk_bytes=60)
        self.runner = ChunkedForkRunner(AllmaSettings.without_airflow(options))
        payload = {"items": MANIFEST if manifest else items}
        self.state: Any = self.program.start_state(payload, "run-1").to_dict()

    def write(self, items: list[Any]) -> None:
        lines = b"".join(json.dumps(item).encode() + b"\n" for item in items)
        self.store.write(Pointer("bucket", "m.jsonl"), lines)

    def go_on(self, **events: Any) -> SegmentResult:
        for key, payload in events.items():
            self.answers.put(SuspendReason.EVENT, key.replace("_", ":"), {"payload": payload})
        services = Services(
            store=self.store,
            answers=self.answers,
            now=lambda: self.seconds,
            settings=self.settings,
            fork_runner=self.runner,
            tracer=self.tracer,
            flows=self.flows,
        )
        state = RunState.from_dict(json.loads(json.dumps(self.state)))
        result = asyncio.run(run_segment(self.program, state, INFO, services))
        self.state = result.state.to_dict()
        return result

    def keys(self) -> list[str]:
        """Continue without an event, and return what the run waits for."""
        result = self.go_on()
        assert result.status is SegmentStatus.SUSPENDED
        return [wait.key for wait in result.waits]

    def stored(self, folder: str) -> list[Json]:
        """Return all lines of the chunks' objects in a folder."""
        infos = [info for info in self.store.list("bucket", "offload/") if f"/{folder}/" in info.pointer.key]
        bodies = [self.store.read(info.pointer) for info in infos]
        return [json.loads(line) for body in bodies for line in body.splitlines()]


def aggregated(result: SegmentResult) -> Any:
    assert result.status is SegmentStatus.COMPLETED, result.error
    return result.state.context["steps_output"]["fan"]["aggregatedData"]


def numbers(count: int) -> list[Json]:
    return [{"n": n} for n in range(count)]


@pytest.mark.parametrize("offload", [True, False])
@settings(max_examples=25)
@given(data=st.data(), count=st.integers(2, 20), manifest=st.booleans())
def test_events_in_any_order_and_batches_give_each_result_once(offload, data, count, manifest):
    run = ChunkedRun(steps(), numbers(count), manifest=manifest, offload=offload)
    assert run.keys() == [f"item:{n}" for n in range(count)]
    left = data.draw(st.permutations(range(count)))
    result = None
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        result = run.go_on(**{f"item_{n}": {"v": f"v{n}"} for n in batch})
        if left:
            assert sorted(wait.key for wait in result.waits) == sorted(f"item:{n}" for n in left)
    assert aggregated(result) == [{"n": n, "v": f"v{n}"} for n in range(count)]
    if offload:
        assert sorted(line["output"]["n"] for line in run.stored("parts")) == list(range(count))


def test_items_without_a_wait_end_in_the_first_part_and_run_once():
    flow = steps()
    flow["fan"]["parallelBranches"][0]["stepInstanceId"] = "choose"
    flow["choose"] = noop(
        transitions=[{"condition": "$.currentItem.n < 3", "nextStepInstanceId": "w"}], **then("last")
    )
    run = ChunkedRun(flow, numbers(8))
    assert run.keys() == ["item:0", "item:1", "item:2"]
    assert {line["output"]["n"] for line in run.stored("parts")} == set(range(3, 8))
    done = run.go_on(item_0={"v": 0}, item_1={"v": 1}, item_2={"v": 2})
    assert [one["n"] for one in aggregated(done)] == list(range(8))
    assert len(run.stored("parts")) == 8


def test_one_place_is_enough_for_all_items_that_wait():
    run = ChunkedRun(steps(config={"maxConcurrency": 1}), numbers(30))
    assert len(run.keys()) == 30


def test_items_that_wait_too_long_fail_alone_and_others_go_on_waiting():
    flow = steps(config={"failOnBranchError": False})
    flow["w"]["maxWaitTimeSeconds"] = 60
    run = ChunkedRun(flow, numbers(4))
    run.go_on()
    run.seconds += 30
    run.go_on(item_2={"v": "in time"})
    run.seconds += 30
    data = aggregated(run.go_on())
    assert data[2] == {"n": 2, "v": "in time"}
    errors = [data[n]["error"] for n in (0, 1, 3)]
    assert {error["errorName"] for error in errors} == {"WaitTimeout"}
    assert [error["errorDetails"]["itemIndex"] for error in errors] == [0, 1, 3]
    # The offset of the line is known although another process has read it.
    assert [error["errorDetails"]["byteOffset"] for error in errors] == [0, 9, 27]


def test_a_branch_waits_twice():
    flow = steps()
    flow["last"] |= then("w2")
    flow["w2"] = wait("second:{{currentItem.n}}", outputMappings={"$.output": "$"})
    run = ChunkedRun(flow, numbers(3))
    run.go_on()
    assert sorted(wait.key for wait in run.go_on(item_1={"v": 1}).waits) == ["item:0", "item:2", "second:1"]
    run.go_on(item_0={"v": 0}, item_2={"v": 2}, second_1={"b": 1})
    done = run.go_on(second_0={"b": 0}, second_2={"b": 2})
    assert aggregated(done) == [{"b": 0}, {"b": 1}, {"b": 2}]


def test_several_branches_of_an_item_wait_on_their_own():
    branches = [{"branchId": name, "stepInstanceId": name} for name in ("a", "b", "c")]
    flow = {
        "fan": fork(parallelBranches=branches),
        "a": wait("a:{{currentItem.n}}"),
        "b": wait("b:{{currentItem.n}}"),
        "c": compose(inputMappings={"c": "$.currentItem.n"}),
    }
    run = ChunkedRun(flow, numbers(2))
    assert sorted(run.keys()) == ["a:0", "a:1", "b:0", "b:1"]
    run.go_on(b_0={"b": 0}, a_1={"a": 1})
    done = run.go_on(a_0={"a": 0}, b_1={"b": 1})
    assert aggregated(done) == [{"a": 0}, {"b": 0}, {"c": 0}, {"a": 1}, {"b": 1}, {"c": 1}]
    assert len(run.stored("parts")) == 6


def test_the_first_branch_that_applies_stays_the_chosen_one_while_it_waits():
    branches = [
        {"branchId": "a", "stepInstanceId": "a", "condition": "$.currentItem.n == 1"},
        {"branchId": "b", "stepInstanceId": "b"},
        {"branchId": "c", "stepInstanceId": "c"},
    ]
    flow = {
        "fan": fork(parallelBranches=branches, branchSelection="first"),
        "a": wait("a:{{currentItem.n}}"),
        "b": wait("b:{{currentItem.n}}"),
        "c": compose(),
    }
    run = ChunkedRun(flow, numbers(3))
    assert sorted(run.keys()) == ["a:1", "b:0", "b:2"]
    done = run.go_on(a_1={"x": 1}, b_0={"x": 0}, b_2={"x": 2})
    assert aggregated(done) == [{"x": 0}, {"x": 1}, {"x": 2}]


@pytest.mark.parametrize("late", [False, True])
def test_of_two_items_with_one_key_the_later_one_fails_at_once(late):
    flow = steps(config={"failOnBranchError": False})
    if late:
        # The second wait for the key begins while the first one is parked.
        flow["fan"]["parallelBranches"][0]["stepInstanceId"] = "choose"
        flow["choose"] = noop(
            transitions=[{"condition": "$.currentItem.n == 1", "nextStepInstanceId": "w0"}], **then("w")
        )
        flow["w0"] = wait("first", **then("w"))
    flow["w"]["correlationKeyTemplate"] = "item:{{currentItem.k}}"
    run = ChunkedRun(flow, [{"n": 0, "k": 7}, {"n": 1, "k": 7}, {"n": 2, "k": 8}])
    first = run.go_on()
    if late:
        first = run.go_on(first={})
    assert sorted(wait.key for wait in first.waits) == ["item:7", "item:8"]
    good, bad, other = aggregated(run.go_on(item_7={"v": "a"}, item_8={"v": "b"}))
    assert (good["v"], other["v"]) == ("a", "b")
    assert bad["error"]["errorName"] == "PermanentStepError"
    assert "something else waits for the key 'item:7'" in bad["error"]["errorMessage"]


def test_forks_inside_of_items_wait_too():
    flow = {
        "fan": fork("inner"),
        "inner": fork("w", items="$.currentItem.list"),
        "w": wait("item:{{currentItem}}"),
    }
    run = ChunkedRun(flow, [{"list": ["a", "b"]}, {"list": ["c"]}])
    assert run.keys() == ["item:a", "item:b", "item:c"]
    run.go_on(item_a={"v": 1}, item_c={"v": 3})
    inner = [one["aggregatedData"] for one in aggregated(run.go_on(item_b={"v": 2}))]
    assert inner == [[{"v": 1}, {"v": 2}], [{"v": 3}]]


def test_a_manifest_that_changes_meanwhile_does_not_touch_items_that_wait():
    run = ChunkedRun(steps(), numbers(6))
    run.go_on()
    run.write([{"n": 90 + n} for n in range(6)])
    done = run.go_on(**{f"item_{n}": {"v": n} for n in range(6)})
    assert aggregated(done) == [{"n": n, "v": n} for n in range(6)]


def test_what_waits_without_an_offload_location_is_bounded():
    run = ChunkedRun(steps(config={"strategy": "NONE"}), numbers(12), offload=False)
    run.runner = ChunkedForkRunner(
        AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=1)).changed(max_inline_bytes=2000)
    )
    failed = run.go_on()
    assert failed.status is SegmentStatus.FAILED
    assert "The results and waiting items of this chunk are" in json.dumps(failed.error)
    assert "Set [allma] offload_location" in json.dumps(failed.error)


@pytest.mark.parametrize(
    ("count", "waits", "nested", "mode"),
    [
        (20, True, False, "memory"),
        (21, True, False, "chunks"),
        (21, True, True, "chunks"),
        (21, False, False, "memory"),
    ],
)
def test_many_items_that_wait_for_events_share_a_task(count, waits, nested, mode):
    flow = steps() if waits else {"fan": fork(), "work": compose()}
    if nested:
        flow |= {"fan": fork("inner"), "inner": fork("w")}
    compiled = program_of(flow).steps["fan"].fork
    settings_of_flow = AllmaSettings.without_airflow()
    decision = decide_fork(compiled, ForkItems(values=numbers(count)), settings_of_flow)
    assert decision.mode.value == mode
    many = AllmaSettings.without_airflow(AirflowOptions(max_waiting_tasks=100))
    assert decide_fork(compiled, ForkItems(values=numbers(count)), many).mode.value == "memory"
