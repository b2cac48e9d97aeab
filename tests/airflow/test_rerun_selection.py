"""Items that somebody has selected to run again: exactly they run, once, whatever happens in between."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.item_selection import ForkSelection, next_generation
from airflow_allma.operators.xcoms import Key
from airflow_allma.storage import MemoryStore, Pointer
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, flow, fork
from tests.airflow.shop import Shop
from tests.support.faulty_runs import aggregated, asking, error_of, manifest

pytestmark = pytest.mark.airflow

COUNT = 12
"""Items in two chunks of six."""


class Rerun:
    """A run whose fork has two chunks; the shop refuses what ``refused`` names."""

    def __init__(self, shop: Shop, store: MemoryStore, *, is_list: bool = False, **more: Any) -> None:
        self.shop, self.store = shop, store
        self.refused: set[int] = set()
        shop.answer = lambda path, count: self._answer(int(path[1:]), count)
        of_fork = {"failOnBranchError": False, **more.pop("fork", {})}
        branches = more.pop("branches", [branch("w")])
        steps = more.pop("steps", asking(shop))
        items = "$.initialContextData.items" if is_list else "$.initialContextData.p"
        # A blank line is no item; with it, no line begins exactly where the chunks are split.
        store.write(Pointer("data", "m.jsonl"), b"\n\n" + manifest(COUNT))
        written = flow(
            "again",
            {"f": fork(*branches, items=items, **of_fork), **steps},
            airflow={
                "chunkBytes": 100,
                "maxChunks": 2,
                "maxInMemoryItems": COUNT // 2,
                "offloadLocation": "s3://results/r",
                **more,
            },
        )
        payload = {"items": [{"n": n} for n in range(COUNT)], "p": {"bucket": "data", "key": "m.jsonl"}}
        self.dag_run = FakeDagRun(written, payload)
        self.chunks = self.dag_run.plan("f")
        self.tries: Counter[int] = Counter()
        self.before: dict[Any, Any] = {}
        assert [chunk["count"] for chunk in self.chunks] == [COUNT // 2] * 2

    def _answer(self, number: int, count: int) -> tuple[int, Any]:
        return (404, {}) if number in self.refused else (200, {"call": count})

    def select(self, generation: int = 1, /, **chunks: list[int]) -> None:
        """Write the selection as the page does over Airflow's API."""
        named = {int(name[1:]): items for name, items in chunks.items()}
        self.write(ForkSelection.of(generation, named).encode())

    def write(self, value: Any) -> None:
        self.dag_run.xcoms["f.chunks", -1, Key.RERUN] = value

    def clear(self, *numbers: int, retry: bool = False) -> list[int]:
        """Clear and run chunks, or retry them, and return the items that were called, in order."""
        self.shop.calls = Counter()
        self.before = dict(self.store._objects)
        for number in numbers or (0, 1):
            self.tries[number] += 1
            cleared_after = 1 if retry else self.tries[number] - 1
            self.dag_run.run("f.chunk", number, self.chunks[number], (self.tries[number], cleared_after))
        return sorted(n for n, calls in self.called.items() for _ in range(calls))

    @property
    def called(self) -> dict[int, int]:
        return {int(path[1:]): count for path, count in self.shop.calls.items()}

    def results(self) -> list[Any]:
        return [one.get("status", "failed") for one in aggregated(self.dag_run, self.store)]

    def failed(self) -> list[int]:
        return [n for n, status in enumerate(self.results()) if status == "failed"]

    def kill_after(self, number: int, items: int) -> None:
        """Leave of the last try what a killed process leaves that has stored the results of some items."""
        self.dag_run.kill("f.chunk", number)
        objects, folder = self.store._objects, f"/{number:06d}/parts/"
        (part,) = [key for bucket, key in objects.keys() - self.before.keys() if folder in key]
        lines = self.store.read(Pointer("results", part)).splitlines(keepends=True)[:items]
        objects.clear()
        objects.update(self.before)
        if lines:
            first, end = (json.loads(lines[place])["item"] for place in (0, -1))
            head, _, name = part.rpartition("/")
            sequence, *_, writer = name.split("-")
            key = f"{head}/{sequence}-{first:010d}-{end:010d}-{len(lines)}-{writer}"
            self.store.write(Pointer("results", key), b"".join(lines))


@pytest.fixture
def begin(shop, use_store):
    return lambda **options: Rerun(shop, use_store(MemoryStore()), **options)


@pytest.mark.parametrize("is_list", [False, True])
def test_exactly_the_selected_items_run_good_ones_too_and_their_new_results_count(begin, is_list):
    run = begin(is_list=is_list)
    run.refused = {1, 3, 7}
    assert run.clear() == list(range(COUNT))
    run.refused = {4}
    run.select(c0=[1, 4], c1=[0])
    assert run.clear() == [1, 4, 6]
    assert run.failed() == [3, 4, 7]


def test_a_selection_works_once_and_later_clears_rerun_what_failed(begin):
    run = begin()
    run.refused = {1, 3, 7}
    run.clear()
    run.select(c0=[3, 5])
    run.refused = {3, 5}
    assert run.clear(0) == [3, 5]
    assert run.clear(0) == [1, 3, 5]
    run.refused = set()
    assert run.clear() == [3, 5, 7]
    assert run.failed() == []
    assert run.clear() == []


def test_a_later_selection_reruns_the_same_items_again(begin):
    run = begin()
    run.clear()
    for generation in (1, 2, 5):
        run.select(generation, c1=[2])
        assert run.clear() == [8]
        assert run.clear() == []
    run.select(4, c1=[2])
    assert run.clear() == []


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
def test_a_retry_of_a_lost_process_runs_what_is_left_of_the_selection(begin, stored):
    run = begin()
    run.refused = {0, 1, 5}
    run.clear()
    run.select(c0=[1, 3, 4])
    assert run.clear(0) == [1, 3, 4]
    run.kill_after(0, stored)
    assert run.clear(0, retry=True) == [1, 3, 4][stored:]
    assert run.failed() == [0, 1, 5]
    assert run.clear(0) == [0, 1, 5]


def test_a_process_lost_after_its_last_item_does_not_make_the_retry_run_others(begin):
    run = begin()
    run.refused = {0, 5}
    run.clear()
    run.select(c0=[5])
    assert run.clear(0) == [5]
    run.dag_run.kill("f.chunk", 0)
    assert run.clear(0, retry=True) == []
    assert run.clear(0) == [0, 5]


def test_chunks_that_the_selection_does_not_name_rerun_what_failed(begin):
    run = begin()
    run.refused = {0, 7, 8}
    run.clear()
    run.select(c0=[2])
    assert run.clear() == [2, 7, 8]


def test_a_chunk_with_lost_items_runs_the_selected_ones_and_the_others_stay_lost(begin):
    run = begin()
    run.clear(1)
    run.clear(0)
    run.kill_after(0, 3)
    run.dag_run.states["f.chunk_0"] = "failed"
    run.select(c0=[1, 5])
    assert run.clear(0) == [1, 5]
    assert run.failed() == [3, 4]


def test_the_label_and_the_state_tell_of_all_failed_items_not_only_of_the_selected(begin, caplog):
    run = begin(fork={"failOnBranchError": True})
    run.refused = {1, 3}
    run.clear()
    run.refused = {3}
    run.select(c0=[1, 2])
    with caplog.at_level("INFO"):
        assert run.clear(0) == [1, 2]
    assert run.dag_run.states["f.chunk_0"] == "failed"
    messages = [record.getMessage() for record in caplog.records]
    assert "Rerunning 2 selected items; others keep their results" in messages
    assert any(message.startswith("1 of 6 items failed (items 0-5)") for message in messages)
    run.refused = set()
    run.select(2, c0=[3])
    run.clear(0)
    assert run.dag_run.states["f.chunk_0"] == "success"


def test_first_runs_and_runs_without_a_store_ask_for_no_selection(begin, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "airflow_allma.operators.rerun_selection.pull_raw", lambda *args: asked.append(args) or None
    )
    run = begin()
    run.clear()
    assert asked == []
    run.clear()
    assert len(asked) == 2
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    inline = begin(offloadLocation=None, is_list=True)
    inline.clear()
    inline.select(c0=[1])
    assert inline.clear() == list(range(COUNT))
    assert len(asked) == 2


def test_planning_again_drops_the_selection(begin):
    run = begin()
    run.refused = {1}
    run.clear()
    run.select(c0=[4])
    run.dag_run.run("f.chunks")
    assert run.clear() == [1]


def test_all_branches_of_a_selected_item_run_and_of_the_first_that_applies_only_that_one(begin, shop):
    two = [branch("w", "a"), branch("w", "b")]
    run = begin(branches=two)
    run.clear()
    run.select(c0=[2])
    assert run.clear() == [2, 2]
    first = begin(
        branches=[branch("w", "a", condition="$.currentItem.n > 3"), branch("w", "b")],
        fork={"branchSelection": "first"},
    )
    first.refused = {2}
    first.clear()
    first.select(c0=[2, 5])
    assert first.clear(0) == [2, 5]
    # The part has two lines for item 2: branch a does not apply.
    first.kill_after(0, 2)
    assert first.clear(0, retry=True) == [5]
    assert len(first.results()) == COUNT


WRONG = [
    ("not JSON", "JSON"),
    (b"[]".decode(), "Expected `object`, got `array`"),
    ({"version": 1}, "it must be a string with JSON, not dict"),
    ('{"version":2,"generation":1,"chunks":{}}', "Invalid enum value 2 - at `$.version`"),
    ('{"version":1,"generation":0,"chunks":{}}', "Expected `int` >= 1 - at `$.generation`"),
    ('{"version":1,"generation":9007199254740991,"chunks":{}}', "more than a day ahead of the clock"),
    ('{"version":1,"generation":1,"chunks":{"../x":[1]}}', "matching regex"),
    ('{"version":1,"generation":1,"chunks":{"0":[]}}', "length >= 1 - at `$.chunks[...]`"),
    ('{"version":1,"generation":1,"chunks":{"0":[-1]}}', "Expected `int` >= 0"),
    ('{"version":1,"generation":1,"chunks":{"0":["1"]}}', "Expected `int`, got `str`"),
    ('{"version":1,"generation":1,"chunks":{"0":[1]},"x":1}', "unknown field `x`"),
    ('{"version":1,"generation":1,"chunks":{"0":[6]}}', "names item 6 of chunk 0 (items 0-5), which has 6"),
    ("x" * (1 << 20) + "x", "1,048,577 characters, more than 1,048,576"),
    (
        json.dumps({"version": 1, "generation": 1, "chunks": {"0": list(range(9_000)), "1": [0] * 1_001}}),
        "it names 10,001 items, more than 10,000",
    ),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_what_is_not_a_selection_fails_the_chunk_and_says_why(begin, value, message):
    run = begin()
    run.refused = {1}
    run.clear()
    run.write(value)
    assert run.clear(0) == []
    error = error_of(run.dag_run, 0)
    assert message in error
    assert error.startswith("XCom allma_rerun of task f.chunks is not a selection of items: ")
    assert "Delete it to rerun the items that failed" in error


@given(
    st.dictionaries(st.integers(0, 300), st.lists(st.integers(0, 10**6), min_size=1), max_size=5),
    st.integers(1, 1_700_000_000),
)
def test_a_selection_is_the_same_after_its_way_through_json(chunks, generation):
    selection = ForkSelection.parse(ForkSelection.of(generation, chunks).encode())
    for number in range(301):
        found = selection.of_chunk(ChunkSpec(number, "x"))
        if number not in chunks:
            assert found is None
        else:
            assert found is not None
            assert (found.generation, found.items) == (generation, set(chunks[number]))


def test_a_new_selection_has_a_higher_generation_than_any_before():
    first = next_generation()
    assert next_generation(first) == first + 1
    assert next_generation() >= first > 1_700_000_000
