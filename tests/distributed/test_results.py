from __future__ import annotations

import itertools
import json
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_layout import PartKind, PartName, list_parts
from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.result_format import read_chunk_summary
from airflow_allma.distributed.result_reader import read_results
from airflow_allma.distributed.result_writer import ResultWriter
from airflow_allma.exceptions import ObjectDecodeError, StorageUnavailableError
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import Pointer
from tests.storage.conftest import World
from tests.support.faulty_store import FaultyStore, fail_when

CHUNK = OffloadLocation("b", "results/000003")


def new_store() -> MemoryStore:
    store = MemoryStore()
    store.write(Pointer("b", "something else"), b"")
    return store


def test_the_first_results_of_a_bucket_may_be_its_first_objects():
    store = MemoryStore()
    _run(store, None)
    assert found(store) == [(0, "a", "ok", 1)]


def found(store: Any, location: OffloadLocation = CHUNK, branches: tuple[str, ...] = ()) -> list[tuple]:
    return [
        (line.item, line.branch, line.status, line.value())
        for line in read_results(store, location, branches)
    ]


def test_results_come_back_in_item_order_from_every_store(world: World):
    location = OffloadLocation(world.bucket, "r").below("dag", "run:1", "fork", "000000")
    world.store.write(world.at("other"), b"")
    order = list(range(500))
    random.Random(3).shuffle(order)
    with ResultWriter(world.store, location, flush_bytes=4000) as writer:
        for item in order:
            if writer.add_output(item, item * 10, "main", {"n": item}):
                writer.flush()
        manifest = writer.finish(500)
    assert len(manifest.parts) > 5
    assert found(world.store, location) == [(item, "main", "ok", {"n": item}) for item in range(500)]
    assert read_chunk_summary(world.store, location) == manifest
    assert (manifest.items, manifest.succeeded, manifest.failed) == (500, 500, 0)
    assert [part.info.pointer.key for part in list_parts(world.store, location)] == manifest.parts


def test_the_format_on_disk_is_the_documented_one():
    store = new_store()
    with ResultWriter(store, CHUNK) as writer:
        writer.add_error(13, 1992, "fetch", {"errorName": "E"})
        writer.add_output(12, 1840, "fetch", None)
        writer.add_skipped(14, 2144, "fetch")
        writer.finish(3)
    [part] = list_parts(store, CHUNK)
    assert part.info.pointer.key.startswith("results/000003/parts/000000-0000000012-0000000014-3-")
    assert [json.loads(line) for line in store.read(part.info.pointer).splitlines()] == [
        {"item": 12, "offset": 1840, "branch": "fetch", "status": "ok", "output": None},
        {"item": 13, "offset": 1992, "branch": "fetch", "status": "failed", "error": {"errorName": "E"}},
        {"item": 14, "offset": 2144, "branch": "fetch", "status": "skipped"},
    ]
    assert json.loads(store.read(Pointer("b", "results/000003/manifest.json"))) == {
        "version": 1,
        "items": 3,
        "succeeded": 1,
        "failed": 1,
        "skipped": 1,
        "generation": 0,
        "parts": [part.info.pointer.key],
    }


STATUSES = ("ok", "failed", "skipped")
RUN = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab"), st.sampled_from(STATUSES)), max_size=20)
RUNS = st.lists(RUN, max_size=5)


@given(RUNS, st.integers(1, 400))
def test_the_first_success_counts_else_the_last_of_the_others_over_any_number_of_runs(runs, flush_bytes: int):
    store = new_store()
    expected: dict[tuple[int, str], tuple[str, int | None]] = {}
    numbers = itertools.count()
    for run in runs:
        with ResultWriter(store, CHUNK, flush_bytes=flush_bytes) as writer:
            for item, branch, status in run:
                number = next(numbers)
                before = expected.get((item, branch), ("", 0))[0]
                assert writer.has_succeeded(item, branch) == (before == "ok")
                assert writer.is_done(item, branch) == (before in {"ok", "skipped"})
                if status == "skipped":
                    due = writer.add_skipped(item, 0, branch)
                else:
                    due = (writer.add_output if status == "ok" else writer.add_error)(item, 0, branch, number)
                if due:
                    writer.flush()
                if before != "ok":
                    expected[item, branch] = (status, None if status == "skipped" else number)
            states = [status for status, _ in expected.values()]
            counts = [states.count(status) for status in STATUSES]
            assert [writer.succeeded, writer.failed, writer.skipped] == counts
    assert found(store) == [(*run, *expected[run]) for run in sorted(expected)]


LINES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from("ab"),
        st.sampled_from(STATUSES),
        st.sampled_from((0, 0, 1, 2**53 - 1)),
    ),
    min_size=1,
    max_size=8,
)


def write_part(store: MemoryStore, sequence: int, lines: list[dict[str, Any]]) -> None:
    items = [line["item"] for line in lines]
    name = PartName(PartKind.RESULTS, sequence, min(items), max(items), len(items), "w")
    store.write(name.pointer(CHUNK), b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@given(st.lists(LINES, max_size=6))
def test_the_highest_generation_counts_as_a_naive_reader_of_all_lines_finds(parts):
    store = new_store()
    numbers = itertools.count()
    written = []
    for sequence, part in enumerate(parts):
        lines = [
            {"item": item, "offset": 0, "branch": branch, "status": status, "output": next(numbers)}
            | ({"generation": generation} if generation else {})
            for item, branch, status, generation in sorted(part, key=lambda line: line[0])
        ]
        write_part(store, sequence, lines)
        written += lines
    expected = {}
    for item, branch in sorted({(line["item"], line["branch"]) for line in written}):
        same = [line for line in written if (line["item"], line["branch"]) == (item, branch)]
        last = max(line.get("generation", 0) for line in same)
        same = [line for line in same if line.get("generation", 0) == last]
        counting = next((line for line in same if line["status"] == "ok"), same[-1])
        expected[item, branch] = (counting["status"], counting["output"])
    lines_read = list(read_results(store, CHUNK))
    assert [(line.item, line.branch) for line in lines_read] == list(expected)
    for line in lines_read:
        assert (line.status, json.loads(bytes(line.output))) == expected[line.item, line.branch]
    writer = ResultWriter(store, CHUNK)
    states = [status for status, _ in expected.values()]
    assert [writer.succeeded, writer.failed, writer.skipped] == [states.count(status) for status in STATUSES]


def test_a_generation_is_written_before_the_value():
    store = new_store()
    with ResultWriter(store, CHUNK) as writer:
        writer.select(ItemSelection(7, frozenset({1})))
        writer.add_error(1, 10, "a", {"errorName": "E"})
        writer.add_output(2, 20, "a", "x")
    [part] = list_parts(store, CHUNK)
    assert store.read(part.info.pointer).splitlines() == [
        b'{"item":1,"offset":10,"branch":"a","status":"failed","generation":7,"error":{"errorName":"E"}}',
        b'{"item":2,"offset":20,"branch":"a","status":"ok","output":"x"}',
    ]


SELECTIONS = st.none() | st.builds(
    ItemSelection, st.integers(1, 3), st.frozensets(st.integers(0, 12), max_size=4)
)


@given(st.lists(st.tuples(SELECTIONS, RUN), max_size=5))
def test_results_of_a_selection_replace_earlier_ones_and_later_runs_add_to_them(runs):
    store = new_store()
    expected: dict[tuple[int, str], tuple[str, int | None, int]] = {}
    numbers = itertools.count()
    for selection, results in runs:
        with ResultWriter(store, CHUNK, flush_bytes=100) as writer:
            if selection is not None:
                writer.select(selection)
            for item, branch, status in results:
                number = next(numbers)
                before, _, generation = expected.get((item, branch), ("", None, 0))
                is_selected = selection is not None and item in selection.items
                new = max(generation, selection.generation) if is_selected else generation
                if status == "skipped":
                    writer.add_skipped(item, 0, branch)
                else:
                    (writer.add_output if status == "ok" else writer.add_error)(item, 0, branch, number)
                if new > generation or before != "ok":
                    expected[item, branch] = (status, None if status == "skipped" else number, new)
                assert writer.generation(item, branch) == new
            summary = writer.finish(13)
            generations = [generation for _, _, generation in expected.values()]
            assert summary.generation >= max(generations, default=0)
            assert summary.generation >= (selection.generation if selection else 0)
            states = [status for status, _, _ in expected.values()]
            counts = [states.count(status) for status in STATUSES]
            assert [summary.succeeded, summary.failed, summary.skipped] == counts
    assert found(store) == [(*run, *expected[run][:2]) for run in sorted(expected)]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30), st.integers(1, 6), st.randoms())
def test_two_runs_at_once_lose_nothing_and_each_item_counts_once(
    results, part_size: int, chance: random.Random
):
    store = new_store()
    writers = [ResultWriter(store, CHUNK), ResultWriter(store, CHUNK)]
    for number, (item, is_ok) in enumerate(results):
        writer = chance.choice(writers)
        (writer.add_output if is_ok else writer.add_error)(item, 0, "a", number)
        if number % part_size == 0:
            writer.flush()
    for writer in writers:
        writer.flush()
    lines = found(store)
    assert [line[0] for line in lines] == sorted({item for item, _ in results})
    succeeded = {item for item, is_ok in results if is_ok}
    assert {item for item, _, status, _ in lines if status == "ok"} == succeeded


def test_results_of_one_item_come_in_the_order_of_the_branches():
    store = new_store()
    with ResultWriter(store, CHUNK) as writer:
        for branch in ("x", "b", "c", "a"):
            writer.add_output(0, 0, branch, branch)
    assert [line[1] for line in found(store, branches=("c", "a", "b"))] == ["c", "a", "b", "x"]
    assert [line[1] for line in found(store)] == ["a", "b", "c", "x"]


def test_a_flush_is_due_by_size_and_by_time():
    now = [100.0]
    store = new_store()
    writer = ResultWriter(store, CHUNK, flush_bytes=200, flush_seconds=5, clock=lambda: now[0])
    assert not writer.is_due
    assert not writer.add_output(0, 0, "a", 1)
    now[0] += 4.9
    assert not writer.is_due
    now[0] += 0.2
    assert writer.is_due
    writer.flush()
    assert not writer.is_due
    assert not writer.add_output(1, 0, "a", 1)
    assert writer.add_output(2, 0, "a", "x" * 200)


def test_results_that_could_not_be_written_go_on_waiting():
    memory = new_store()
    broken = [True]
    store = FaultyStore(memory, fail_when(lambda operation, *_: operation == "write" and broken[0]))
    writer = ResultWriter(store, CHUNK)
    writer.add_output(0, 0, "a", "first")
    with pytest.raises(StorageUnavailableError):
        writer.flush()
    writer.add_output(1, 0, "a", "second")
    broken[0] = False
    writer.flush()
    assert [line[3] for line in found(memory)] == ["first", "second"]
    assert len(list_parts(memory, CHUNK)) == 1


def _run(store: Any, error: Exception | None) -> None:
    with ResultWriter(store, CHUNK) as writer:
        writer.add_output(0, 0, "a", 1)
        if error is not None:
            raise error


def test_what_is_finished_is_written_when_the_chunk_breaks_and_there_is_no_manifest():
    store = new_store()
    with pytest.raises(ZeroDivisionError):
        _run(store, ZeroDivisionError())
    assert found(store) == [(0, "a", "ok", 1)]
    assert read_chunk_summary(store, CHUNK) is None


def test_a_store_that_breaks_at_the_end_does_not_hide_the_first_error():
    store = FaultyStore(new_store(), fail_when(lambda operation, *_: operation == "write"))
    with pytest.raises(ZeroDivisionError) as caught:
        _run(store, ZeroDivisionError())
    assert any("could not be written" in note for note in caught.value.__notes__)
    with pytest.raises(StorageUnavailableError):
        _run(store, None)


def test_a_repeated_skip_is_not_written_again():
    store = new_store()
    with ResultWriter(store, CHUNK) as writer:
        writer.add_skipped(0, 0, "a")
    with ResultWriter(store, CHUNK) as writer:
        assert writer.skipped == 1
        writer.add_skipped(0, 0, "a")
        assert writer.waiting_bytes == 0
    assert len(list_parts(store, CHUNK)) == 1


def test_parts_of_other_names_are_left_alone_but_broken_ones_are_named():
    store = new_store()
    _run(store, None)
    store.write(CHUNK.pointer("parts", "note", ending=".txt"), b"hello")
    assert len(found(store)) == 1
    [part] = list_parts(store, CHUNK)
    good = store.read(part.info.pointer)
    other = good.replace(b'"item":0', b'"item":7')
    assert other != good
    for content, reason in (
        (b"{}\n", "byte 0"),
        (good + b"{}\n", f"byte {len(good)}"),
        (good + good, "name states"),
        (b"", "name states"),
        (other, "item 7"),
    ):
        store.write(part.info.pointer, content)
        with pytest.raises(ObjectDecodeError, match=reason) as caught:
            found(store)
        assert part.info.pointer.key in str(caught.value)


def test_a_manifest_of_another_form_is_an_error():
    store = new_store()
    store.write(CHUNK.pointer("manifest", ending=".json"), b'{"version": 2}')
    with pytest.raises(ObjectDecodeError, match="not a summary"):
        read_chunk_summary(store, CHUNK)


def test_an_output_that_is_no_json_is_refused_before_it_counts():
    writer = ResultWriter(new_store(), CHUNK)
    with pytest.raises(ObjectDecodeError):
        writer.add_output(0, 0, "a", "\ud800")
    assert not writer.is_done(0, "a")
    assert not writer.is_due


def test_parts_that_are_not_due_yet_are_not_opened():
    memory = new_store()
    writer = ResultWriter(memory, CHUNK)
    for item in range(100):
        writer.add_output(item, 0, "a", item)
        writer.flush()
    store = FaultyStore(memory)
    results = read_results(store, CHUNK)
    for _ in range(10):
        next(results)
    assert [operation for operation, _ in store.calls] == ["list"] + ["stream"] * 10
    results.close()


def test_results_may_be_added_while_another_thread_flushes():
    store = new_store()
    writer = ResultWriter(store, CHUNK, flush_bytes=1000)
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            writer.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    for item in range(3000):
        writer.add_output(item, 0, "a", item)
    stop.set()
    thread.join()
    writer.flush()
    assert [line[3] for line in found(store)] == list(range(3000))
