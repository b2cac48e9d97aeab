from __future__ import annotations

import pytest

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.result_index import (
    index_pointer,
    list_trace_parts,
    plan_pointer,
    read_index,
    read_plan,
    trace_part_pointer,
    write_plan,
)
from airflow_allma.engine import RunInfo
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.memory import MemoryStore

FOLDER = OffloadLocation("b", "run/fork/results/token")
CHUNK = FOLDER.below("000003")


def test_a_plan_is_found_again_with_what_it_belongs_to():
    store = MemoryStore()
    plan = ChunkPlan((ChunkSpec(0, "items 0-9", 0, 10),), 10, "token", 64)
    info = RunInfo.now("flow", 3, "run-1")
    write_plan(store, FOLDER, plan, "fork", info)
    stored = read_plan(store, FOLDER)
    assert stored is not None
    assert stored.plan == plan
    assert (stored.fork, stored.flow_id, stored.flow_version, stored.run_id) == ("fork", "flow", 3, "run-1")


def test_a_chunk_of_an_older_version_has_no_plan_index_or_traces():
    store = MemoryStore()
    store.write(CHUNK.pointer("manifest", ending=".json"), b"{}")
    assert (read_plan(store, FOLDER), read_index(store, CHUNK), list_trace_parts(store, CHUNK)) == (
        None,
        None,
        [],
    )


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"version":2}', b'{"version":1,"items":"x"}', b"\xff"]
)
def test_an_index_or_plan_of_another_format_is_an_error_that_names_it(data):
    store = MemoryStore()
    for pointer, read, folder in (
        (index_pointer(CHUNK), read_index, CHUNK),
        (plan_pointer(FOLDER), read_plan, FOLDER),
    ):
        store.write(pointer, data)
        with pytest.raises(ObjectDecodeError, match=pointer.key):
            read(store, folder)


def test_parts_of_traces_are_listed_in_order_and_other_objects_ignored():
    store = MemoryStore()
    for sequence in (2, 0):
        pointer = trace_part_pointer(CHUNK, sequence=sequence, first=5, last=9, count=4, writer="ab")
        store.write(pointer, b"")
    store.write(CHUNK.pointer("traces", "other", ending=".jsonl"), b"")
    parts = list_trace_parts(store, CHUNK)
    assert [(part.sequence, part.first, part.last, part.count, part.writer) for part in parts] == [
        (0, 5, 9, 4, "ab"),
        (2, 5, 9, 4, "ab"),
    ]
