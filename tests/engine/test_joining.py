"""Forks in one process: large results become objects and are aggregated while branches still run."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine import BranchResult, BranchStatus, EngineSettings, run_fork
from airflow_allma.engine import reorder_buffer as buffer_module
from airflow_allma.engine.aggregate_stream import MAX_BUFFERED_ITEMS
from airflow_allma.engine.reorder_buffer import AbortedError, ReorderBuffer
from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.storage import MemoryStore, Pointer
from airflow_allma.storage.keys import OffloadLocation
from tests.support.engine import INFO, Fakes, call, compose, fork, program_of, run, then
from tests.support.faulty_store import FaultyStore, fail_when

SETTINGS = EngineSettings(offload_location=OffloadLocation.parse("s3://big/out"), output_offload_bytes=100)
WORK = compose(inputMappings={"n": "$.currentItem"})
WAITS = pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
COUNTS = pytest.mark.parametrize("count", [50, MAX_BUFFERED_ITEMS, MAX_BUFFERED_ITEMS + 1, 2000])


def pointer_of(ran, key="fan"):
    return Pointer.parse(ran.outputs[key]["aggregatedData"])


@WAITS
@COUNTS
def test_large_results_become_an_object_that_steps_read_as_a_list_and_forks_as_items(count, waits):
    store = MemoryStore()
    steps = {
        "fan": fork(**then("read")),
        "work": {**WORK, **waits},
        "read": compose(
            inputMappings={
                "length": "$.steps_output.fan.aggregatedData.length",
                "last": "$.steps_output.fan.aggregatedData[-1:].n",
                "whole": "$.steps_output.fan.aggregatedData",
            },
            disableS3Offload=True,
            **then("again"),
        ),
        "again": fork("more", "$.steps_output.fan.aggregatedData", {"strategy": "SUM", "dataPath": "$.m"}),
        "more": compose(inputMappings={"m": "$.currentItem.n"}),
    }
    ran = run(steps, {"items": list(range(count))}, store=store, settings=SETTINGS)
    assert ran.status == "COMPLETED", ran.error
    pointer = pointer_of(ran)
    assert pointer.key.startswith("out/shop/run-1/fan/aggregated/")
    assert store.read(pointer) == b"".join(b'{"n":%d}\n' % n for n in range(count))
    assert ran.outputs["read"]["length"] == count
    assert ran.outputs["read"]["last"] == [count - 1]
    assert ran.outputs["again"] == {"aggregatedData": sum(range(count))}


@COUNTS
@pytest.mark.parametrize(
    ("fields", "services"),
    [({"disableS3Offload": True}, {"settings": SETTINGS, "store": MemoryStore()}), ({}, {})],
)
def test_results_stay_a_list_if_the_fork_says_so_or_no_location_is_set(count, fields, services):
    ran = run({"fan": fork(**fields), "work": WORK}, {"items": list(range(count))}, **services)
    assert ran.outputs["fan"] == {"aggregatedData": [{"n": n} for n in range(count)]}


@pytest.mark.parametrize(("count", "offloads"), [(1, False), (12, False), (13, True)])
def test_results_have_the_same_threshold_as_outputs(count, offloads):
    # {"n":0} and its line break have eight bytes.
    ran = run({"fan": fork(), "work": WORK}, {"items": [0] * count}, store=MemoryStore(), settings=SETTINGS)
    assert (pointer_of(ran) is not None) is offloads


def test_a_fork_that_runs_more_than_once_writes_one_object_per_run():
    store = MemoryStore()
    inner = fork("work", "$.currentItem")
    outer = fork(parallelBranches=[{"branchId": "mid", "stepInstanceId": "mid"}])
    steps = {
        "fan": outer,
        "mid": fork(items="$.currentItem", parallelBranches=[{"branchId": "in", "stepInstanceId": "in"}]),
        "in": inner,
        "work": WORK,
    }
    # Both inner forks are in item 0 of branch "in".
    items = [[list(range(20))], [list(range(20, 40))]]
    ran = run(steps, {"items": items}, store=store, settings=SETTINGS)
    keys = {info.pointer.key for info in store.list("big") if "/in/" in info.pointer.key}
    assert len(keys) == 2
    assert ran.status == "COMPLETED"


@COUNTS
def test_a_failed_fork_does_not_leave_an_object(count):
    store = MemoryStore()
    picky = compose(inputMappings={"n": "$.currentItem"}, outputValidation={"requiredFields": ["$.n"]})
    items = [*range(count - 1), None]
    ran = run({"fan": fork(), "work": picky}, {"items": items}, store=store, settings=SETTINGS)
    assert ran.error["errorName"] == "ParallelBranchExecutionError"
    assert ran.error["errorDetails"]["failedBranchCount"] == 1
    assert ran.error["errorDetails"]["branchCount"] == count
    assert written(store) == []


@WAITS
@COUNTS
def test_a_store_that_rejects_the_results_fails_the_fork_with_its_own_error(count, waits):
    def refuse(operation, _pointer, _number):
        if operation == "open_writer":
            raise StorageUnavailableError("the store is on fire")

    ran = run(
        {"fan": fork(), "work": {**WORK, **waits}},
        {"items": list(range(count))},
        store=FaultyStore(MemoryStore(), refuse),
        settings=SETTINGS,
    )
    assert ran.status == "FAILED"
    assert "on fire" in ran.error["errorMessage"]
    assert threads_end()


def test_items_that_fail_half_way_fail_the_fork_with_their_own_error():
    store = MemoryStore()
    store.write(Pointer("b", "k.jsonl"), (b'"' + b"x" * 1000 + b'"\n') * 4000)
    cut = fail_when(lambda _operation, _pointer, number: number > 1)
    ran = run(
        {"fan": fork(), "work": WORK},
        {"items": Pointer("b", "k.jsonl").wrap()},
        store=FaultyStore(store, block_hook=cut),
        settings=replace(SETTINGS, output_offload_bytes=2000),
    )
    assert "failed on purpose" in ran.error["errorMessage"]
    assert threads_end()
    assert written(store) == []


def test_a_fork_that_times_out_ends_its_thread():
    class Never:
        async def request(self, *args, **kwargs):
            await asyncio.sleep(3600)

        async def close(self):
            return None

    program = program_of({"fan": fork(), "work": call()})
    services = Fakes().services(http=Never())

    async def main():
        fan = program.steps["fan"].fork
        async with asyncio.timeout(0.2):
            await run_fork(fan, {"items": list(range(1000))}, INFO, services)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert threads_end()


def written(store):
    store.write(Pointer("big", "another"), b"")
    return [info for info in store.list("big") if info.pointer.key != "another"]


def threads_end():
    """Return whether all threads that aggregate results end; they live a little longer than their result."""
    joining = [one for one in threading.enumerate() if one.name.startswith("allma-join")]
    for one in joining:
        one.join(30)
    return not any(one.is_alive() for one in joining)


def fan_of(branches=1, **fields):
    names = [{"branchId": f"b{number}", "stepInstanceId": "work"} for number in range(branches)]
    program = program_of({"fan": fork(parallelBranches=names, **fields), "work": WORK})
    return program.steps["fan"].fork


@settings(deadline=None)
@given(st.data(), st.integers(0, 40), st.integers(1, 3), st.booleans())
def test_results_are_sorted_by_item_and_branch_whatever_order_they_arrive_in(data, count, branches, first):
    expected = []
    for item in range(count):
        for branch in range(branches):
            status = data.draw(st.sampled_from(BranchStatus))
            expected.append(BranchResult(item, branch, f"b{branch}", status))
            if first and status is not BranchStatus.SKIPPED:
                break
    buffer = ReorderBuffer(fan_of(branches, **({"branchSelection": "first"} if first else {})))
    came = data.draw(st.permutations(expected))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(came)), max_size=3)))
    for begin, end in zip([0, *cuts], [*cuts, len(came)], strict=True):
        buffer.submit(came[begin:end])
    buffer.close(complete=True)
    assert list(buffer) == expected


@pytest.mark.parametrize("slow", ["store", "first item"])
def test_items_are_read_no_faster_than_results_are_joined(monkeypatch, slow):
    monkeypatch.setattr(buffer_module, "_MAX_WAITING", 100)
    monkeypatch.setattr(buffer_module, "_BATCH_SIZE", 10)
    buffer = ReorderBuffer(fan_of())
    read = []
    begin = 1 if slow == "first item" else 0

    def reading():
        for number in buffer.throttle(range(1000)):
            read.append(number)
            if number >= begin:
                buffer.submit([BranchResult(number, 0, "b0")])

    reader = threading.Thread(target=reading)
    reader.start()
    for _ in range(3000):
        reader.join(0.01)
        if len(read) >= 100 + begin:
            break
    # Without back pressure it would continue at once.
    reader.join(0.3)
    assert reader.is_alive()
    assert len(read) == 100 + begin
    results = iter(buffer)
    if slow == "first item":
        buffer.submit([BranchResult(0, 0, "b0")])
    joined = []
    joiner = threading.Thread(target=lambda: joined.extend(results))
    joiner.start()
    reader.join(30)
    assert not reader.is_alive()
    buffer.close(complete=True)
    joiner.join(30)
    assert [one.item_index for one in joined] == list(range(1000))


def test_both_sides_of_the_buffer_are_notified_if_the_other_one_aborts(monkeypatch):
    monkeypatch.setattr(buffer_module, "_MAX_WAITING", 1)
    buffer = ReorderBuffer(fan_of())
    throttled = buffer.throttle(range(10))
    next(throttled)
    buffer.submit([BranchResult(0, 0, "b0")])
    timer = threading.Timer(0.1, buffer.abort)
    timer.start()
    with pytest.raises(AbortedError):
        next(throttled)
    buffer = ReorderBuffer(fan_of())
    threading.Timer(0.1, buffer.close, kwargs={"complete": False}).start()
    with pytest.raises(AbortedError):
        next(iter(buffer))
