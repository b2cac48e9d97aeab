"""Stores that fail, and sources that change, while chunks read items of every format."""

from __future__ import annotations

import random

import pytest

from airflow_allma.storage import Pointer
from airflow_allma.storage.memory import MemoryStore
from tests.support.faulty_proxy import Fault, s3_through_proxy
from tests.support.faulty_runs import aggregated, error_of, failed_indexes, run_all, source_run
from tests.support.faulty_store import FaultyStore, fail_when
from tests.support.item_sources import SOURCES

pytestmark = pytest.mark.airflow

COUNT = 40
WHOLE = [source for source in SOURCES if source.name in {"csv", "parquet"}]
"""One object has all items."""
MANY = [source for source in SOURCES if source not in WHOLE]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_one_bad_response_in_ten_changes_neither_results_nor_their_order(
    moto_endpoint, bucket, use_store, source
):
    chance = random.Random(source.name)
    kinds = [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET, Fault.SHORT_BODY]
    broken = {10 * n + chance.randrange(10): kinds[n % 4] for n in range(200)}
    with s3_through_proxy(moto_endpoint, lambda call: broken.get(call.number)) as (store, calls):
        use_store(store)
        written = source.write(store, bucket, COUNT, "old", 0)
        dag_run = source_run(source, written, f"s3://{bucket}/r")
        run_all(dag_run, dag_run.plan("f"))
        data = aggregated(dag_run, store)
    assert {broken[call.number] for call in calls if call.number in broken} == set(kinds)
    assert data == [{"n": one["n"], "v": "old"} for one in written.inputs]


@pytest.mark.parametrize("source", WHOLE, ids=str)
def test_an_object_replaced_after_planning_fails_the_chunks_that_have_not_read_it(use_store, source):
    store = use_store(MemoryStore())
    written = source.write(store, "data", COUNT, "old", 0)
    pointer = Pointer("data", written.pointer["key"])
    planned = store.head(pointer).etag
    dag_run = source_run(source, written, "s3://results/r")
    chunks = dag_run.plan("f")
    dag_run.run("f.chunk", 0, chunks[0])
    source.write(store, "data", COUNT, "new", 0)
    now = store.head(pointer).etag
    for number in range(1, len(chunks)):
        dag_run.run("f.chunk", number, chunks[number])
        assert {planned, now} <= set(error_of(dag_run, number).replace(",", " ").replace(".", " ").split())
    data = aggregated(dag_run, store)
    assert {one["v"] for one in data if "error" not in one} == {"old"}
    assert failed_indexes(data) == list(range(chunks[1]["first"], COUNT))


def replace_one(source, store, key: str) -> None:
    """Replace one of several objects with its new version."""
    fresh = MemoryStore()
    source.write(fresh, "data", COUNT, "new", 0)
    store.write(Pointer("data", key), fresh.read(Pointer("data", key)))


@pytest.mark.parametrize("source", [one for one in MANY if one.name != "manifest"], ids=str)
def test_one_of_many_objects_that_changes_or_goes_fails_alone_and_mixes_no_results_when_it_is_back(
    use_store, source
):
    store = use_store(MemoryStore())
    written = source.write(store, "data", COUNT, "old", 0)
    dag_run = source_run(source, written, "s3://results/r", chunkBytes=1 << 20, maxChunks=1)
    (chunk,) = dag_run.plan("f")
    key, count = ("in/0007.json", 1) if source.name == "objects" else ("in/2.csv", COUNT // 4)
    before = store.read(Pointer("data", key))
    replace_one(source, store, key)
    dag_run.run("f.chunk", 0, chunk)
    data = aggregated(dag_run, store)
    (bad,) = failed_indexes(data)
    assert key in data[bad]["error"]["errorMessage"]
    assert len(data) == COUNT - count + 1
    assert {one["v"] for one in data if "error" not in one} == {"old"}
    assert store.write(Pointer("data", key), before).size
    dag_run.run("f.chunk", 0, chunk)
    if count == 1:
        assert failed_indexes(aggregated(dag_run, store)) == []
    else:
        # The file was one item, and has ten: those after it have other indexes now.
        assert "plan the fork again" in error_of(dag_run, 0)


@pytest.mark.parametrize("source", MANY, ids=str)
def test_a_store_that_does_not_respond_fails_the_chunk_which_then_runs_to_its_end(use_store, source):
    store = use_store(MemoryStore())
    written = source.write(store, "data", COUNT, "old", 0)
    dag_run = source_run(source, written, "s3://results/r", chunkBytes=1 << 20, maxChunks=1)
    (chunk,) = dag_run.plan("f")
    key = "in/0020.json" if source.name == "objects" else "in/3.parquet"
    fails = fail_when(lambda operation, pointer, _: operation != "head" and pointer.key == key)
    use_store(FaultyStore(store, fails))
    dag_run.run("f.chunk", 0, chunk)
    assert "failed on purpose" in error_of(dag_run, 0)
    use_store(store)
    dag_run.run("f.chunk", 0, chunk)
    assert [one["n"] for one in aggregated(dag_run, store)] == [one["n"] for one in written.inputs]
