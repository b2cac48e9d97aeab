from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_layout import ChunkFile, PartKind, PartName, list_parts, plan_pointer
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.item_labels import ItemLabels
from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.result_index import (
    MARK_BYTES,
    MARK_LINES,
    ItemTrace,
    PartIndex,
    read_plan,
    write_plan,
)
from airflow_allma.distributed.result_writer import NewResult, ResultWriter
from airflow_allma.engine import BranchStatus, ItemError, RunInfo
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.exceptions import ObjectDecodeError, PermanentStepError
from airflow_allma.expressions import compile_path
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import Pointer
from tests.support.stored_forks import read_index

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
    assert (
        read_plan(store, FOLDER),
        read_index(store, CHUNK),
        list_parts(store, CHUNK, PartKind.TRACES),
    ) == (
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
        (ChunkFile.INDEX.pointer(CHUNK), read_index, CHUNK),
        (plan_pointer(FOLDER), read_plan, FOLDER),
    ):
        store.write(pointer, data)
        with pytest.raises(ObjectDecodeError, match=pointer.key):
            read(store, folder)


def test_parts_of_traces_are_listed_in_order_and_other_objects_ignored():
    store = MemoryStore()
    for sequence in (2, 0):
        store.write(PartName(PartKind.TRACES, sequence, 5, 9, 4, "ab").pointer(CHUNK), b"")
    store.write(CHUNK.pointer("traces", "other", ending=".jsonl"), b"")
    parts = list_parts(store, CHUNK, PartKind.TRACES)
    assert [part.name for part in parts] == [
        PartName(PartKind.TRACES, sequence, 5, 9, 4, "ab") for sequence in (0, 2)
    ]


def lines_of(store, key):
    data = store.read(Pointer("b", key))
    return data, data.splitlines(keepends=True)


def check_part(store, part: PartIndex) -> None:
    """Check that each mark is at the first line of its item, and that marks are not far from each other."""
    data, lines = lines_of(store, part.key)
    items = [json.loads(line)["item"] for line in lines]
    assert (part.first, part.last, part.count, part.bytes) == (items[0], items[-1], len(items), len(data))
    starts = dict(zip(accumulate(map(len, lines[:-1]), initial=0), items, strict=True))
    first_of: dict[int, int] = {}
    for start, item in starts.items():
        first_of.setdefault(item, start)
    assert [(item, first_of[item]) for item, _ in part.marks] == [tuple(mark) for mark in part.marks]
    bounds = [0, *(byte for _, byte in part.marks), len(data)]
    longest = max(map(len, lines))
    per_item = max(Counter(items).values())
    for begin, end in pairwise(bounds):
        assert sum(begin <= start < end for start in starts) <= 2 * MARK_LINES * per_item
        assert end - begin <= MARK_BYTES + (MARK_LINES + 1) * per_item * longest


SIZES = st.sampled_from((0, 10, 300, 5_000, 300_000))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.sampled_from("ab"), SIZES), max_size=30),
    st.integers(1, 700),
    st.booleans(),
)
def test_marks_lead_to_items_whatever_the_sizes_and_the_order(large, items, two_branches):
    store = MemoryStore()
    sizes = {(item, branch): size for item, branch, size in large}
    results = [
        NewResult(item, 0, branch, BranchStatus.OK, output="x" * sizes.get((item, branch), 1))
        for item in range(items)
        for branch in ("ab" if two_branches else "a")
    ]
    shuffled = sorted(results, key=lambda result: sizes.get((result.item, result.branch), 0), reverse=True)
    with ResultWriter(store, CHUNK, flush_bytes=1 << 30) as writer:
        half = len(shuffled) // 2
        writer.add(shuffled[:half])
        for result in shuffled[half:]:
            writer.add([result])
        writer.finish(items)
    index = read_index(store, CHUNK)
    assert index is not None
    assert (index.items, index.succeeded, index.failed) == (items, len(results), 0)
    for part in index.parts:
        check_part(store, part)


def test_a_long_part_has_a_mark_every_128_lines():
    store = MemoryStore()
    with ResultWriter(store, CHUNK) as writer:
        writer.add([NewResult(item, 0, "a", BranchStatus.OK, output=1) for item in range(1000)])
        writer.finish(1000)
    index = read_index(store, CHUNK)
    assert index is not None
    [part] = index.parts
    assert [item for item, _ in part.marks] == [128, 256, 384, 512, 640, 768, 896]
    check_part(store, part)


def test_the_index_of_a_chunk_that_ran_again_has_the_parts_failures_and_traces_of_all_tries():
    store = MemoryStore()
    error = {"errorName": "E", "errorMessage": "Item 7 is bad", "errorDetails": {"status": 404}}
    with ResultWriter(store, CHUNK) as writer:
        writer.add([NewResult(item, 10 * item, "a", BranchStatus.OK, output=1) for item in range(300)])
        for item in (300, 301, 302):
            writer.add_trace(ItemTrace(item, "a", BranchStatus.FAILED, [{"step": "s"}]))
            writer.add_error(item, 10 * item, "a", error)
        writer.add_skipped(303, 3030, "a")
    with ResultWriter(store, CHUNK) as writer:
        writer.add_output(300, 3000, "a", 5)
        writer.add_trace(ItemTrace(301, "a", BranchStatus.FAILED, [{"step": "t"}]))
        writer.add_error(301, 3010, "a", {**error, "errorName": "F"})
        writer.skip_trace()
        writer.finish(304)
    index = read_index(store, CHUNK)
    assert index is not None
    assert (index.items, index.succeeded, index.failed, index.skipped) == (304, 301, 2, 1)
    assert [(kind.error_name, kind.status, kind.count, kind.first) for kind in index.kinds] == [
        ("F", 404, 1, 301),
        ("E", 404, 1, 302),
    ]
    assert [part.count for part in index.parts] == [304, 2]
    for part in index.parts:
        check_part(store, part)
    assert index.parts[0].marks
    assert [(part.first, part.last, part.count) for part in index.traces] == [(300, 302, 3), (301, 301, 1)]
    assert index.untraced == 1
    _, lines = lines_of(store, ChunkFile.FAILURES.pointer(CHUNK).key)
    assert [json.loads(line) for line in lines] == [
        {
            "item": item,
            "branch": "a",
            "offset": 10 * item,
            "label": "",
            "step": "",
            "errorName": name,
            "status": 404,
            "message": "Item 7 is bad",
            "kind": next(kind.kind for kind in index.kinds if kind.error_name == name),
        }
        for item, name in ((301, "F"), (302, "E"))
    ]
    assert index.listed_failures == 2


def test_traces_of_selected_items_have_their_generation():
    store = MemoryStore()
    with ResultWriter(store, CHUNK) as writer:
        writer.select(ItemSelection(3, frozenset({1})))
        for item in (0, 1):
            writer.add_trace(ItemTrace(item, "a", BranchStatus.OK, []))
            writer.add_output(item, 0, "a", 1)
        writer.finish(2)
    index = read_index(store, CHUNK)
    assert index is not None
    _, lines = lines_of(store, index.traces[0].key)
    assert [json.loads(line).get("generation", 0) for line in lines] == [0, 3]


class Fork:
    """What names items."""

    def __init__(self, path: str | None = None) -> None:
        self.label_path = None if path is None else compile_path(path)
        self.batcher = None


LABELLED = {
    None: [
        ({"id": "u-1"}, "u-1"),
        ({"x": 1}, ""),
        (["id"], ""),
        ("id", ""),
        ({"name": "a\nb"}, "a\\nb"),
        (7, ""),
    ],
    "$.user.mail": [({"user": {"mail": "a@b"}}, "a@b"), ({"key": 5}, "5"), ({}, ""), (None, "")],
}


@pytest.mark.parametrize("path", LABELLED)
def test_labels_are_one_line_each_in_item_order(path):
    store = MemoryStore()
    labels = ItemLabels(store, CHUNK, Fork(path), SecretMasks())
    items, expected = zip(*LABELLED[path], strict=True)
    unnamed = [(number, {"x": number}) for number in range(300)]
    labels.add(unnamed)
    labels.add(list(enumerate(items)))
    labels.add([(0, ItemError(PermanentStepError("bad")))])
    labels.add(unnamed)
    labels.save()
    assert labels.are_stored
    stored = gzip.decompress(store.read(ChunkFile.LABELS.pointer(CHUNK))).decode().split("\n")
    assert stored == [*[""] * 300, *expected, "", *[""] * 300, ""]
    # As a process sees them that only continues items.
    later = ItemLabels(store, CHUNK, Fork(path), SecretMasks())
    assert later.are_stored
    assert [later.read()(item) for item in (299, 300, 10_000)] == ["", expected[0], ""]


def test_items_without_labels_store_none():
    store = MemoryStore()
    labels = ItemLabels(store, CHUNK, Fork(), SecretMasks())
    labels.add([(0, {"x": 1})])
    labels.save()
    assert not labels.are_stored
    assert not ItemLabels(store, CHUNK, Fork(), SecretMasks()).are_stored
    assert labels.read()(0) == ""
