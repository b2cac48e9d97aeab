"""Chunks whose store fails: results that survive, and failures that name their cause."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_allma.storage import LocalStore, Pointer
from airflow_allma.storage.memory import MemoryStore
from tests.airflow.flows import compose
from tests.support.faulty_proxy import Call, Fault, s3_through_proxy
from tests.support.faulty_runs import (
    aggregated,
    asking,
    error_of,
    failed_indexes,
    manifest,
    manifest_run,
    run_all,
)
from tests.support.faulty_store import FaultyStore, fail_when

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("seed", range(2))
def test_one_bad_response_in_twenty_changes_neither_results_nor_their_order(
    moto_endpoint, bucket, use_store, flushed_often, seed
):
    chance = random.Random(seed)
    kinds = [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET, Fault.SHORT_BODY]
    broken = {20 * n + chance.randrange(20): kinds[n % 4] for n in range(200)}
    with s3_through_proxy(moto_endpoint, lambda call: broken.get(call.number)) as (store, calls):
        use_store(store)
        source = Pointer(bucket, "m.jsonl")
        store.write(source, manifest(200))
        dag_run = manifest_run(source, f"s3://{bucket}/r", chunkBytes=500, maxChunks=12)
        chunks = dag_run.plan("f")
        run_all(dag_run, chunks)
        data = aggregated(dag_run, store)
    assert len(chunks) > 8
    assert {broken[call.number] for call in calls if call.number in broken} == set(kinds)
    assert {dag_run.states[f"f.chunk_{number}"] for number in range(len(chunks))} == {"success"}
    assert [one["n"] for one in data] == list(range(200))


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.ERROR_500, Fault.SLOW_DOWN])
def test_a_results_location_that_refuses_writes_fails_that_chunk_by_name_and_no_other(
    moto_endpoint, bucket, use_store, fault
):
    def plan(call: Call) -> Fault | None:
        return fault if call.method == "PUT" and "/000001/" in call.path else None

    with s3_through_proxy(moto_endpoint, plan) as (store, _):
        use_store(store)
        store.write(Pointer(bucket, "m.jsonl"), manifest(40))
        dag_run = manifest_run(Pointer(bucket, "m.jsonl"), f"s3://{bucket}/r", chunkBytes=400, maxChunks=4)
        chunks = dag_run.plan("f")
        run_all(dag_run, chunks)
        message = error_of(dag_run, 1)
        assert f"s3://{bucket}/r/" in message
        assert "test connection 'moto'" in message
        data = aggregated(dag_run, store)
    gone = range(chunks[1]["first"], chunks[2]["first"])
    assert failed_indexes(data) == list(gone)
    assert [one["n"] for one in data if "error" not in one] == [n for n in range(40) if n not in gone]
    assert f"s3://{bucket}/r/" in data[gone[0]]["error"]["errorMessage"]


def test_a_chunk_that_cannot_store_results_stops_early_instead_of_making_all_its_calls(
    use_store, flushed_often, shop
):
    good = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    good.write(source, manifest(1000))
    dag_run = manifest_run(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    (chunk,) = dag_run.plan("f")
    use_store(FaultyStore(good, fail_when(lambda operation, *_: operation == "write")))
    dag_run.run("f.chunk", 0, chunk)
    assert "write number" in error_of(dag_run, 0)
    assert sum(shop.calls.values()) < 500


def test_what_could_not_be_written_just_before_the_end_is_written_at_the_end(use_store, flushed_often, shop):
    good = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    good.write(source, manifest(1))
    dag_run = manifest_run(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    (chunk,) = dag_run.plan("f")
    writes: list[str] = []

    def first_write(operation: str, pointer: Pointer, _: int) -> bool:
        if operation == "write":
            writes.append(pointer.key)
        return operation == "write" and len(writes) == 1

    use_store(FaultyStore(good, fail_when(first_write)))
    dag_run.run("f.chunk", 0, chunk)
    assert dag_run.states["f.chunk_0"] == "success"
    assert [key.rpartition("/")[2].partition("-")[0] for key in writes] == [
        "000000",
        "000000",
        "index.json",
        "manifest.json",
    ]
    assert [one["data"] for one in aggregated(dag_run, use_store(good))] == [{"path": "/0"}]


def test_a_chunk_that_cannot_write_its_summary_fails_although_its_results_are_good(use_store):
    good = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    good.write(source, manifest(40))
    dag_run = manifest_run(source, "s3://results/r", chunkBytes=1 << 20)
    (chunk,) = dag_run.plan("f")
    use_store(FaultyStore(good, fail_when(lambda _, pointer, __: pointer.key.endswith("/manifest.json"))))
    dag_run.run("f.chunk", 0, chunk)
    assert "/manifest.json" in error_of(dag_run, 0)
    assert [one["n"] for one in aggregated(dag_run, use_store(good))] == list(range(40))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Simulate a full disk: no file can grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_results_folder_fails_that_chunk_by_name_and_no_other(tmp_path, use_store):
    store = use_store(LocalStore(tmp_path))
    store.write(Pointer("data", "m.jsonl"), manifest(40, padding=5_000))
    steps = {"w": compose({"n": "$.currentItem.n", "p": "$.currentItem.p"})}
    dag_run = manifest_run(
        Pointer("data", "m.jsonl"), "s3://results/r", steps, chunkBytes=50_000, maxChunks=4
    )
    chunks = dag_run.plan("f")
    dag_run.run("f.chunk", 0, chunks[0])
    with files_of_at_most(20_000):
        dag_run.run("f.chunk", 1, chunks[1])
    for number in range(2, len(chunks)):
        dag_run.run("f.chunk", number, chunks[number])
    message = error_of(dag_run, 1)
    assert "s3://results/r/" in message
    assert str(tmp_path) in message
    data = aggregated(dag_run, store)
    gone = range(chunks[1]["first"], chunks[2]["first"])
    assert failed_indexes(data) == list(gone)
    # There is space again now: clearing the chunk is enough.
    dag_run.run("f.chunk", 1, chunks[1])
    assert [one["n"] for one in aggregated(dag_run, store)] == list(range(40))
