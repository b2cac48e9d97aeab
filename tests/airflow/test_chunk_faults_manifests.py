"""Manifests that change after a fork was planned."""

from __future__ import annotations

import re

import pytest

from airflow_allma.storage import LocalStore, Pointer
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.s3 import S3Store
from tests.airflow.fake_dag_run import FakeDagRun
from tests.support.faulty_proxy import Call, Fault, s3_through_proxy
from tests.support.faulty_runs import (
    aggregated,
    error_of,
    failed_indexes,
    manifest,
    manifest_run,
    run_all,
    stored_items,
)
from tests.support.faulty_store import FaultyStore
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.airflow

ETAG = re.compile(r'"[0-9a-f-]{10,}"')


@pytest.mark.parametrize("kind", ["memory", "file", "s3"])
def test_a_manifest_replaced_after_planning_fails_the_chunks_that_have_not_read_it(
    tmp_path, moto_endpoint, bucket, use_store, kind
):
    store = use_store({
        "memory": MemoryStore, "file": lambda: LocalStore(tmp_path),
        "s3": lambda: S3Store(EndpointClients(moto_endpoint)),
    }[kind]())  # fmt: skip
    source = Pointer(bucket, "m.jsonl")
    planned = store.write(source, manifest(40)).etag
    dag_run = manifest_run(source, f"s3://{bucket}/r", chunkBytes=400, maxChunks=4)
    chunks = dag_run.plan("f")
    assert len(chunks) == 4
    run_all(dag_run, chunks[:2])
    now = store.write(source, manifest(40, "new")).etag
    for number in (2, 3):
        dag_run.run("f.chunk", number, chunks[number])
        message = error_of(dag_run, number)
        assert planned in message
        assert now in message
        assert "m.jsonl" in message
    data = aggregated(dag_run, store)
    first = chunks[2]["first"]
    assert data[:first] == [{"n": n, "v": "old"} for n in range(first)]
    assert failed_indexes(data) == list(range(first, 40))
    for place in range(first, 40):
        number = 2 if place < chunks[3]["first"] else 3
        message = data[place]["error"]["errorMessage"]
        assert f"Item {place}, branch b: task f.chunk[{number}]" in message
        assert planned in message
        assert now in message


BIG = {"count": 100, "padding": 40_000}
"""About 4 MB in one chunk: several blocks are not yet read when the first one is processed."""


def one_content(
    dag_run: FakeDagRun, store: ObjectStore, planned: str, now: str, *, may_end_well: bool
) -> None:
    """Check that the chunk read the old content to its end, or failed and named both ETags."""
    data = aggregated(dag_run, store)
    assert len(data) == BIG["count"]
    assert {one["v"] for one in data if "error" not in one} <= {"old"}
    assert [one["n"] for one in data if "error" not in one] == sorted(
        set(range(100)) - set(failed_indexes(data))
    )
    if may_end_well:
        assert failed_indexes(data) == []
        return
    assert failed_indexes(data)
    assert {planned, now} <= set(ETAG.findall(error_of(dag_run, 0)))


def test_a_manifest_replaced_while_a_broken_read_is_resumed_is_an_error_with_both_etags(
    moto_endpoint, bucket, use_store
):
    source = Pointer(bucket, "m.jsonl")
    good = S3Store(EndpointClients(moto_endpoint))
    planned = good.write(source, manifest(version="old", **BIG)).etag
    changed: list[str] = []
    reads: list[Call] = []

    def plan(call: Call) -> Fault | None:
        if call.method != "GET" or "m.jsonl" not in call.path or "f.chunk" not in running:
            return None
        reads.append(call)
        if len(reads) == 1:
            return Fault.SHORT_BODY
        if not changed:
            changed.append(good.write(source, manifest(version="new", **BIG)).etag)
        return None

    running: list[str] = []
    with s3_through_proxy(moto_endpoint, plan) as (store, _):
        use_store(store)
        dag_run = manifest_run(source, f"s3://{bucket}/r", chunkBytes=64 << 20)
        (chunk,) = dag_run.plan("f")
        running.append("f.chunk")
        dag_run.run("f.chunk", 0, chunk)
        one_content(dag_run, store, planned, changed[0], may_end_well=False)
        # Results from before the failure are kept.
        assert 0 < sum(stored_items(store, bucket).values()) < BIG["count"]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_changed_while_a_chunk_reads_it_is_an_error_and_a_file_replaced_is_read_to_its_end(
    tmp_path, use_store, in_place
):
    good = LocalStore(tmp_path)
    source = Pointer("data", "m.jsonl")
    file = tmp_path / "data" / "m.jsonl"
    fresh = manifest(version="new", **BIG)
    planned = good.write(source, manifest(version="old", **BIG)).etag
    changes: list[str] = []
    armed: list[bool] = []

    def change(_: str, pointer: Pointer, __: int) -> None:
        if armed and pointer.key == source.key and not changes:
            if in_place:
                file.write_bytes(fresh)
            else:
                good.write(source, fresh)
            changes.append(good.head(source).etag)

    store = FaultyStore(good, block_hook=change)
    use_store(store)
    dag_run = manifest_run(source, "s3://results/r", chunkBytes=64 << 20)
    (chunk,) = dag_run.plan("f")
    armed.append(True)
    dag_run.run("f.chunk", 0, chunk)
    assert changes
    one_content(dag_run, good, planned, changes[0], may_end_well=not in_place)
