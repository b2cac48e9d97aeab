"""Plans, indexes and results that somebody has changed: a sentence, never a crash or an endless search."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from airflow_allma.distributed.bounded_read import MAX_OBJECT_BYTES
from airflow_allma.distributed.chunk_layout import ChunkFile, plan_pointer
from airflow_allma.distributed.chunk_plan import ChunkPlan
from airflow_allma.distributed.result_index import read_plan
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.inspection import ChunkState, ForkView, ItemQuery, fork_summary, item_page
from airflow_allma.inspection.chunk_files import ChunkListing
from airflow_allma.inspection.chunk_objects import ChunkObjects
from airflow_allma.inspection.read_budget import Budget
from tests.support.stored_forks import StoredChunk, StoredFork, write_fork


@pytest.fixture
def fork() -> StoredFork:
    """Return a fork of one chunk with three items, of which one failed."""
    return write_fork([StoredChunk(3, [[(0, "main", "o"), (1, "main", "f"), (2, "main", "o")]])])


def changed(saved: Any, path: list[str | int], value: Any) -> Any:
    """Return a JSON value with another value at a path."""
    copied = json.loads(json.dumps(saved))
    *outer, last = path
    place = copied
    for key in outer:
        place = place[key]
    place[last] = value
    return copied


@pytest.mark.parametrize("value", [-1, -(10**18), 10**30, 1.5, "1", None, [], True])
@pytest.mark.parametrize(
    "path",
    [
        ["chunks", 0, "number"],
        ["chunks", 0, "first"],
        ["chunks", 0, "count"],
        ["chunks", 0, "manifest", "range", 0],
        ["chunks", 0, "manifest", "range", 1],
        ["chunks", 0, "manifest", "size"],
        ["items"],
    ],
)
def test_a_plan_with_another_number_is_refused(fork: StoredFork, path: list[str | int], value: Any) -> None:
    if value is None and path[-1] in {"first", "count", "items"}:
        pytest.skip("it can be missing")
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        # Text search of a range from before the object never ended, and its thread served nobody else.
        ChunkPlan.from_dict(changed(fork.view.plan.to_dict(), path, value))


@pytest.mark.parametrize(
    "path",
    [
        ["items"],
        ["failed"],
        ["parts", 0, "first"],
        ["parts", 0, "bytes"],
        ["parts", 0, "marks", 0, 1],
        ["traces", 0, "count"],
        ["kinds", 0, "count"],
    ],
)
def test_an_index_with_a_negative_number_is_a_problem_in_words(
    fork: StoredFork, path: list[str | int]
) -> None:
    folder = fork.view.folder(0)
    assert folder is not None
    pointer = ChunkFile.INDEX.pointer(folder)
    index = json.loads(fork.view.store.read(pointer))
    fork.view.store.write(pointer, msgspec.json.encode(changed(index, path, -5)))
    assert "index.json of chunk 0 cannot be read" in fork_summary(fork.view, 0.0)["problem"]
    with pytest.raises(ObjectDecodeError, match=r"index\.json of chunk 0"):
        item_page(fork.view, ItemQuery())


def test_kinds_that_count_nothing_have_no_share(fork: StoredFork) -> None:
    folder = fork.view.folder(0)
    assert folder is not None
    pointer = ChunkFile.INDEX.pointer(folder)
    index = json.loads(fork.view.store.read(pointer))
    fork.view.store.write(pointer, msgspec.json.encode(changed(index, ["kinds", 0, "count"], 0)))
    assert [kind["share"] for kind in fork_summary(fork.view, 0.0)["kinds"]] == [0]


@pytest.mark.parametrize("results", [1, "x", [1], [[0]], [[0, 1]], [["x", {}]], [[0, {"branch": 1}]]])
def test_results_of_another_form_are_a_problem_in_words(fork: StoredFork, results: Any) -> None:
    handed_on = {"number": 0, "items": 3, "failed": 0, "results": results}
    view: ForkView = replace(fork.view, chunks={0: ChunkState("success", handed_on)})
    with pytest.raises(ObjectDecodeError, match="What chunk 0 handed on"):
        item_page(view, ItemQuery())


def test_the_search_of_indexes_ends_whatever_number_of_items_a_chunk_states(fork: StoredFork) -> None:
    folder = fork.view.folder(0)
    assert folder is not None
    pointer = ChunkFile.INDEX.pointer(folder)
    index = json.loads(fork.view.store.read(pointer))
    many = changed(changed(index, ["labels"], False), ["items"], 10**18)
    fork.view.store.write(pointer, msgspec.json.encode(many))
    uncounted = tuple(replace(chunk, count=None) for chunk in fork.view.plan.chunks)
    handed_on = {"number": 0, "items": 10**18, "failed": 1}
    view = replace(
        fork.view,
        plan=replace(fork.view.plan, chunks=uncounted),
        chunks={0: ChunkState("failed", handed_on, "1")},
    )
    found = item_page(view, ItemQuery(label="7"), Budget(max_seconds=0.1))
    assert not found["isExact"]


@pytest.mark.parametrize("name", list(ChunkFile))
def test_an_object_that_is_too_large_is_a_sentence_and_not_loaded(fork: StoredFork, name: ChunkFile) -> None:
    folder = fork.view.folder(0)
    assert folder is not None
    fork.view.store.write(name.pointer(folder), b"\n" * (MAX_OBJECT_BYTES + 1))
    read = ChunkObjects(fork.view, 0, lambda _: ChunkListing(etags={name: "1"}))
    asked = {
        ChunkFile.INDEX: lambda: read.files,
        ChunkFile.SUMMARY: read.summary,
        ChunkFile.FAILURES: read.failures,
        ChunkFile.LABELS: read.labels,
    }
    with pytest.raises(ObjectDecodeError, match=rf"{name} is too large: it has more than 33,554,432 bytes"):
        asked[name]()


def test_a_page_says_which_object_is_too_large(fork: StoredFork) -> None:
    folder = fork.view.folder(0)
    assert folder is not None
    fork.view.store.write(ChunkFile.INDEX.pointer(folder), b"\n" * (MAX_OBJECT_BYTES + 1))
    assert "index.json is too large" in fork_summary(fork.view, 0.0)["problem"]


def test_a_stored_plan_that_is_too_large_is_refused(fork: StoredFork) -> None:
    results = fork.view.results_folder
    assert results is not None
    fork.view.store.write(plan_pointer(results), b"\n" * (MAX_OBJECT_BYTES + 1))
    with pytest.raises(ObjectDecodeError, match=r"plan\.json is too large"):
        read_plan(fork.view.store, results)
