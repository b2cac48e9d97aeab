"""How items become chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import manifest_chunks, split_list
from airflow_allma.storage import MemoryStore, Pointer
from airflow_allma.storage.manifest_plan import plan_manifest


def test_the_chunks_of_a_manifest_know_their_items():
    store, pointer = MemoryStore(), Pointer("data", "users.jsonl")
    store.write(pointer, b'{"n":1}\n' * 1000)
    plan = plan_manifest(store, pointer, range_bytes=1000, max_ranges=200)
    chunks = manifest_chunks(plan, store)
    assert [chunk.label for chunk in chunks[:3]] == ["items 0-125", "items 126-250", "items 251-375"]
    assert sum(chunk.count or 0 for chunk in chunks) == 1000


@given(count=st.integers(0, 5000), chunks=st.integers(1, 300))
def test_the_chunks_of_a_list_are_all_of_it_in_order(count, chunks):
    planned = split_list(count, chunks)
    assert len(planned) <= chunks
    covered = [index for chunk in planned for index in range(chunk.first, chunk.first + chunk.count)]
    assert covered == list(range(count))
