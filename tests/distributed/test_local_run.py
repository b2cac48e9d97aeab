"""Forks in chunks without Airflow: the same results as on one event loop, through stored parts."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_layout import list_parts
from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.distributed.result_index import read_plan
from airflow_allma.engine import EngineSettings
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.support.engine import Fakes, compose, fork, noop, program_of, run, then
from tests.support.stored_forks import read_index

LOCATION = OffloadLocation("bucket", "offload")


def runner(**options):
    return ChunkedForkRunner(AllmaSettings.without_airflow(AirflowOptions(**options)))


def outcome(program, payload, store, *, chunked, offload=True):
    settings = EngineSettings(offload_location=LOCATION if offload else None, output_offload_bytes=1 << 30)
    fork_runner = runner(max_in_memory_items=2, chunk_bytes=40) if chunked else None
    ran = run(program, payload, store=store, settings=settings, fork_runner=fork_runner)
    return ran.status, ran.error, ran.context.get("steps_output")


def store_with(lines):
    store = MemoryStore()
    store.write(Pointer("bucket", "m.jsonl"), b"".join(line + b"\n" for line in lines))
    return store


FLOW = {"fan": fork(), "work": compose(inputMappings={"n": "$.currentItem.n"})}


@pytest.mark.parametrize("offload", [True, False])
@given(count=st.integers(0, 30), manifest=st.booleans())
def test_chunks_give_the_same_results_as_one_event_loop(offload, count, manifest):
    items = [{"n": number} for number in range(count)]
    store = store_with([json.dumps(item).encode() for item in items])
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"} if manifest else items}
    program = program_of(FLOW)
    chunked = outcome(program, payload, store, chunked=True, offload=offload)
    assert chunked == outcome(program, payload, store, chunked=False, offload=offload)
    assert chunked[0] == "COMPLETED"


def test_results_of_chunks_are_stored_in_parts_below_the_fork():
    store = store_with([b'{"n":1}'] * 20)
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    outcome(program_of(FLOW), payload, store, chunked=True)
    keys = [info.pointer.key for info in store.list("bucket", "offload/")]
    assert sum("/fan/results/" in key and "/parts/" in key for key in keys) > 1
    assert sum(key.endswith("/manifest.json") for key in keys) > 1
    folders = {key.partition("/parts/")[0] for key in keys if "/parts/" in key}
    assert all(list_parts(store, OffloadLocation("bucket", folder)) for folder in folders)
    indexes = [read_index(store, OffloadLocation("bucket", folder)) for folder in sorted(folders)]
    assert sum(index.items for index in indexes if index is not None) == 20
    [plan] = [key.removesuffix("/plan.json") for key in keys if key.endswith("/plan.json")]
    stored = read_plan(store, OffloadLocation("bucket", plan))
    assert stored is not None
    assert (stored.fork, len(stored.plan.chunks)) == ("fan", len(folders))


def test_a_bad_line_fails_alone_in_both_ways():
    store = store_with([b'{"n":0}', b"{", b'{"n":2}'])
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    program = program_of({**FLOW, "fan": fork(config={"failOnBranchError": False})})
    chunked = outcome(program, payload, store, chunked=True)
    assert chunked == outcome(program, payload, store, chunked=False)
    assert chunked[0] == "COMPLETED"


@pytest.mark.parametrize("offload", [True, False])
@given(cells=st.lists(st.text('a",\r\n\u00e9', min_size=1, max_size=8), max_size=30), is_long=st.booleans())
def test_chunks_of_csv_give_the_same_results_as_a_list(offload, cells, is_long):
    rows = [{"n": cell * (1 + 9 * is_long), "id": str(number)} for number, cell in enumerate(cells)]
    quoted = ['"{}",{}'.format(row["n"].replace('"', '""'), row["id"]) for row in rows]
    store = MemoryStore()
    store.write(Pointer("bucket", "rows.csv"), "\r\n".join(["n,id", *quoted]).encode())
    program = program_of(FLOW)
    payload = {"items": {"bucket": "bucket", "key": "rows.csv"}}
    by_list = outcome(program, {"items": rows}, store, chunked=False)
    assert outcome(program, payload, store, chunked=True, offload=offload) == by_list
    assert outcome(program, payload, store, chunked=False) == by_list
    assert by_list[0] == "COMPLETED"


@pytest.fixture
def usual_recursion_limit():
    # Airflow raises it in each process in which it copies an operator.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.usefixtures("usual_recursion_limit")
def test_a_result_that_is_nested_too_deeply_to_be_written_fails_alone(offload):
    # Each step wraps the item once more; what is read from outside is never that deep.
    wraps = {
        f"w{number}": compose(inputMappings={"w": "$.currentItem"}, outputMappings={"$.currentItem": "$"})
        | then(f"w{number + 1}")
        for number in range(200)
    }
    last = compose(inputMappings={"w": "$.currentItem"})
    store = store_with([b"1", b"[" * 850 + b"]" * 850, b"2", b"3"])
    program = program_of({"fan": fork("w0", config={"failOnBranchError": False}), **wraps, "w200": last})
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    settings = EngineSettings(offload_location=LOCATION if offload else None, output_offload_bytes=1 << 30)
    chunked = run(program, payload, store=store, settings=settings, fork_runner=runner(chunk_bytes=1 << 20))
    first, deep, *others = chunked.outputs["fan"]["aggregatedData"]
    assert [set(result) for result in (first, *others)] == [{"w"}] * 3
    # With an offload location, the last step finds it when it measures its output.
    assert "The value cannot be written as JSON" in deep["error"]["errorMessage"]
    assert deep["error"]["errorDetails"]["itemIndex"] == 1


def test_a_fork_in_a_loop_keeps_the_results_of_each_pass_apart():
    steps = {
        "fan": fork(**then("again")),
        "work": compose(inputMappings={"n": "$.currentItem.n"}),
        "again": noop(
            transitions=[
                {"condition": "$.items", "nextStepInstanceId": "fan", "maxTransitions": 2},
            ],
            onError={"fallbackStepInstanceId": "last"},
        ),
        "last": noop(),
    }
    store = store_with([b'{"n":1}'] * 5)
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    program = program_of(steps)
    assert outcome(program, payload, store, chunked=True) == outcome(program, payload, store, chunked=False)


def test_a_fork_inside_a_branch_runs_on_the_branch_event_loop():
    inner = fork("leaf", items="$.currentItem.n")
    steps = {"fan": fork(), "work": inner, "leaf": compose(inputMappings={"m": "$.currentItem"})}
    payload = {"items": [{"n": [1, 2, 3]}] * 5}
    store = store_with([])
    program = program_of(steps)
    assert outcome(program, payload, store, chunked=True) == outcome(program, payload, store, chunked=False)


def test_the_log_names_chunks_and_the_reason_for_them(caplog):
    fakes = Fakes()
    with caplog.at_level("INFO", "airflow_allma.engine"):
        run(
            program_of(FLOW),
            {"items": [{"n": 1}] * 5},
            fakes=fakes,
            fork_runner=runner(max_in_memory_items=2),
        )
    assert "fan: 3 chunks (more than max_in_memory_items (2))" in caplog.text


def test_the_items_of_a_failed_chunk_count_as_failed_like_in_airflow():
    steps = {**FLOW, "fan": fork(config={"strategy": "NONE", "failOnBranchError": False})}
    steps["work"] = compose(literals={"x": "y" * 200})
    settings = AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=2))
    limited = ChunkedForkRunner(settings.changed(max_inline_bytes=100))
    flow_result = run(program_of(steps), {"items": [1, 2, 3, 4]}, fork_runner=limited)
    assert flow_result.status == "COMPLETED"
    counts = flow_result.context["steps_output"]["fan"]
    assert (counts["branchCount"], counts["failedBranchCount"]) == (4, 4)
