"""Chunks that are killed: at a call of their store, and with kill -9 at any moment."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.operators.xcoms import Key, pull, push
from airflow_allma.storage import LocalStore, Pointer
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.object_store import ObjectInfo, ObjectStore
from tests.support.faulty_processes import Killer, run_chunk
from tests.support.faulty_runs import aggregated, asking, desk_of, manifest, stored_items
from tests.support.faulty_store import FaultyStore

pytestmark = pytest.mark.airflow


class Dying(FaultyStore):
    """Takes some writes and no more, like a process that is killed; the last one's answer may get lost."""

    def __init__(self, store: ObjectStore, writes: int, *, last_is_kept: bool) -> None:
        super().__init__(store)
        self._left = writes
        self._last_is_kept = last_is_kept

    def write(self, pointer: Pointer, data: bytes, **options: Any) -> ObjectInfo:
        if self._left > 0:
            self._left -= 1
            return super().write(pointer, data, **options)
        if self._left == 0 and self._last_is_kept:
            super().write(pointer, data, **options)
        self._left = -1
        raise StorageUnavailableError(f"{pointer}: killed on purpose")


@pytest.mark.parametrize("seed", range(20))
def test_a_chunk_killed_at_any_write_loses_no_item_and_runs_none_again_that_has_a_result(
    use_store, flushed_often, shop, seed
):
    chance = random.Random(seed)
    writes, last_is_kept = chance.randrange(6), chance.random() < 0.5
    store = MemoryStore()
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(30))
    desk = desk_of(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    use_store(store)
    (chunk,) = desk.plan("f")
    use_store(Dying(store, writes, last_is_kept=last_is_kept))
    desk.run("f.chunk", 0, chunk)
    assert desk.states["f.chunk_0"] == "failed"
    desk.kill("f.chunk", 0)
    use_store(store)
    kept = stored_items(store, "results")
    assert bool(kept) == bool(writes + last_is_kept)
    before = shop.calls.copy()
    desk.run("f.chunk", 0, chunk)
    again = {int(path[1:]) for path in (shop.calls - before)}
    assert again == set(range(30)) - set(kept)
    # A request that was on its way at the kill may arrive late; that of a kept item has been answered.
    assert {shop.calls[f"/{n}"] for n in kept} <= {1}
    assert stored_items(store, "results") == dict.fromkeys(range(30), 1)
    data = aggregated(desk, store)
    assert [one["data"]["path"] for one in data] == [f"/{n}" for n in range(30)]


ITEMS = 180


@pytest.mark.parametrize("seed", range(20))
def test_a_chunk_killed_by_the_kernel_at_any_moment_loses_no_item_and_counts_none_twice(
    tmp_path, use_store, flushed_often, shop, seed
):
    chance = random.Random(seed)
    store = use_store(LocalStore(tmp_path))
    source = Pointer("data", "m.jsonl")
    size = store.write(source, manifest(ITEMS)).size
    desk = desk_of(source, "s3://results/r", asking(shop), chunkBytes=size * 5 // 6, maxChunks=2)
    chunks = desk.plan("f")
    count = chunks[1]["first"]
    kept: Counter[int] = Counter()
    left = count
    for _ in range(2):
        # Any call of those that this try has to make at least.
        killer = Killer(chance.randint(1, left), chance.random() / 200)
        shop.answer = killer.answer
        before = shop.calls.copy()
        assert not run_chunk(desk, 0, chunks[0], killer)
        assert not {f"/{n}" for n in kept} & set(shop.calls - before)
        kept = stored_items(store, "results")
        left = count - len(kept)
    assert run_chunk(desk, 0, chunks[0])
    assert run_chunk(desk, 1, chunks[1])
    assert stored_items(store, "results") == dict.fromkeys(range(count), 1)
    # As undisturbed: every item once, in order.
    assert [one["data"] for one in aggregated(desk, store)] == [{"path": f"/{n}"} for n in range(ITEMS)]


def test_the_success_of_a_second_try_stays_whatever_the_orphan_of_the_first_writes_afterwards(
    use_store, flushed_often, shop
):
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    desk = desk_of(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    (chunk,) = desk.plan("f")
    shop.answer = lambda path, _: (404, {"path": path})
    desk.run("f.chunk", 0, chunk)
    failures = [info.pointer for info in store.list("results") if "/parts/" in info.pointer.key]
    shop.answer = lambda path, _: (200, {"path": path})
    desk.run("f.chunk", 0, chunk)
    for part in failures:
        late = replace(part, key=part.key.replace("/parts/0", "/parts/9"))
        store.write(late, store.read(part))
    assert stored_items(store, "results") == dict.fromkeys(range(40), 3)
    data = aggregated(desk, store)
    assert [one["data"] for one in data] == [{"path": f"/{n}"} for n in range(40)]


def test_more_results_of_a_killed_chunk_than_it_has_items_are_an_error(use_store):
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    desk = desk_of(source, "s3://results/r", chunkBytes=1 << 20)
    (chunk,) = desk.plan("f")
    desk.run("f.chunk", 0, chunk)
    desk.kill("f.chunk", 0)
    plan = pull(desk.instance("f.aggregate"), "f.chunks", Key.PLAN)
    plan["chunks"][0]["count"] = plan["items"] = 39
    push(desk.instance("f.chunks"), Key.PLAN, plan)
    assert "has 39 items, but also a result of its item 39" in str(desk.run("f.aggregate"))
