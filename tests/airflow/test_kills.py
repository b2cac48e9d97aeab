"""Chunks that are killed: at a call of their store, and with SIGKILL at any moment."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from airflow_allma.operators.xcoms import Key, pull, push
from airflow_allma.storage import LocalStore, Pointer
from airflow_allma.storage.memory import MemoryStore
from tests.support.faulty_processes import Killer, run_chunk
from tests.support.faulty_runs import aggregated, asking, manifest, manifest_run, stored_items
from tests.support.faulty_store import DyingStore

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("seed", range(20))
def test_a_chunk_killed_at_any_write_loses_no_item_and_repeats_none_that_has_a_result(
    use_store, flushed_often, shop, seed
):
    chance = random.Random(seed)
    writes, last_is_kept = chance.randrange(6), chance.random() < 0.5
    store = MemoryStore()
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(30))
    dag_run = manifest_run(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    use_store(store)
    (chunk,) = dag_run.plan("f")
    use_store(DyingStore(store, writes, last_is_kept=last_is_kept))
    dag_run.run("f.chunk", 0, chunk)
    # A part, index and manifest: more writes are a matter of time, and then it is killed after the last one.
    assert dag_run.states["f.chunk_0"] == "failed" or writes >= 3
    dag_run.kill("f.chunk", 0)
    use_store(store)
    kept = stored_items(store, "results")
    assert bool(kept) == bool(writes + last_is_kept)
    before = shop.calls.copy()
    dag_run.run("f.chunk", 0, chunk)
    again = {int(path[1:]) for path in (shop.calls - before)}
    assert again == set(range(30)) - set(kept)
    # A request in flight at the kill may arrive late; the request of a stored item was answered.
    assert {shop.calls[f"/{n}"] for n in kept} <= {1}
    assert stored_items(store, "results") == dict.fromkeys(range(30), 1)
    data = aggregated(dag_run, store)
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
    dag_run = manifest_run(source, "s3://results/r", asking(shop), chunkBytes=size * 5 // 6, maxChunks=2)
    chunks = dag_run.plan("f")
    count = chunks[1]["first"]
    kept: Counter[int] = Counter()
    left = count
    for _ in range(2):
        # Any call that this try must make at least.
        killer = Killer(chance.randint(1, left), chance.random() / 200)
        shop.answer = killer.answer
        before = shop.calls.copy()
        assert not run_chunk(dag_run, 0, chunks[0], killer)
        assert not {f"/{n}" for n in kept} & set(shop.calls - before)
        kept = stored_items(store, "results")
        left = count - len(kept)
    assert run_chunk(dag_run, 0, chunks[0])
    assert run_chunk(dag_run, 1, chunks[1])
    assert stored_items(store, "results") == dict.fromkeys(range(count), 1)
    # As without a kill: every item once, in order.
    assert [one["data"] for one in aggregated(dag_run, store)] == [{"path": f"/{n}"} for n in range(ITEMS)]


def test_the_success_of_a_second_try_is_kept_whatever_the_orphan_of_the_first_writes_later(
    use_store, flushed_often, shop
):
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    dag_run = manifest_run(source, "s3://results/r", asking(shop), chunkBytes=1 << 20)
    (chunk,) = dag_run.plan("f")
    shop.answer = lambda path, _: (404, {"path": path})
    dag_run.run("f.chunk", 0, chunk)
    failures = [info.pointer for info in store.list("results") if "/parts/" in info.pointer.key]
    shop.answer = lambda path, _: (200, {"path": path})
    dag_run.run("f.chunk", 0, chunk)
    for part in failures:
        late = replace(part, key=part.key.replace("/parts/0", "/parts/9"))
        store.write(late, store.read(part))
    assert stored_items(store, "results") == dict.fromkeys(range(40), 3)
    data = aggregated(dag_run, store)
    assert [one["data"] for one in data] == [{"path": f"/{n}"} for n in range(40)]


def test_more_results_of_a_killed_chunk_than_it_has_items_are_an_error(use_store):
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    dag_run = manifest_run(source, "s3://results/r", chunkBytes=1 << 20)
    (chunk,) = dag_run.plan("f")
    dag_run.run("f.chunk", 0, chunk)
    dag_run.kill("f.chunk", 0)
    plan = pull(dag_run.instance("f.aggregate"), "f.chunks", Key.PLAN)
    plan["chunks"][0]["count"] = plan["items"] = 39
    push(dag_run.instance("f.chunks"), Key.PLAN, plan)
    assert "has 39 items, but also a result of its item 39" in str(dag_run.run("f.aggregate"))
