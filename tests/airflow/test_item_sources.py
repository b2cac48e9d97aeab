"""Chunks of every format: reruns, kills and selections keep what is done and repeat nothing else."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from airflow_allma.distributed.item_selection import ForkSelection
from airflow_allma.operators.xcoms import Key
from airflow_allma.storage import LocalStore
from airflow_allma.storage.memory import MemoryStore
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.shop import Shop
from tests.support.faulty_processes import Killer, run_chunk
from tests.support.faulty_runs import aggregated, asking, failed_indexes, run_all, source_run, stored_items
from tests.support.faulty_store import DyingStore
from tests.support.item_sources import SOURCES

pytestmark = pytest.mark.airflow

COUNT = 40
ALL = range(COUNT)
PATHS = [f"/{n}" for n in ALL]


def refusing(shop: Shop, numbers: set[int]) -> None:
    """Refuse these items from now on, and forget the calls until now."""
    shop.calls = Counter()
    shop.answer = lambda path, _: (404, {}) if int(path[1:]) in numbers else (200, {"path": path})


def counts(dag_run: FakeDagRun) -> list[int]:
    """Return how many items each chunk had."""
    return [
        json.loads(value)["items"]
        for (task, _, key), value in sorted(dag_run.xcoms.items())
        if (task, key) == ("f.chunk", Key.RESULTS)
    ]


@pytest.fixture(params=SOURCES, ids=str)
def source(request):
    return request.param


@pytest.fixture
def begin(use_store, shop, source, flushed_often):
    """Return a function that writes items, plans a run that asks the shop for each, and returns all of it."""

    def plan(store=None, **options):
        store = use_store(store or MemoryStore())
        written = source.write(store, "data", COUNT, "old", 0)
        dag_run = source_run(source, written, "s3://results/r", asking(shop, source.at), **options)
        return store, dag_run, dag_run.plan("f")

    return plan


def paths(dag_run: FakeDagRun, store) -> list[str]:
    return [one["data"]["path"] for one in aggregated(dag_run, store)]


def test_chunks_return_all_items_in_order(use_store, source):
    store = use_store(MemoryStore())
    written = source.write(store, "data", COUNT, "old", 0)
    dag_run = source_run(source, written, "s3://results/r")
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks)
    assert len(chunks) >= 3
    assert sum(counts(dag_run)) == COUNT
    assert aggregated(dag_run, store) == [{"n": one["n"], "v": "old"} for one in written.inputs]


def test_a_cleared_chunk_runs_only_the_items_that_failed(begin, shop):
    failing = {1, 12, 13, 22, 39}
    refusing(shop, failing)
    store, dag_run, chunks = begin()
    run_all(dag_run, chunks)
    assert shop.calls == dict.fromkeys(PATHS, 1)
    data = aggregated(dag_run, store)
    assert set(failed_indexes(data)) == failing
    assert [data[n]["error"]["errorDetails"]["itemIndex"] for n in sorted(failing)] == sorted(failing)
    refusing(shop, {22})
    run_all(dag_run, chunks)
    assert shop.calls == {f"/{n}": 1 for n in failing}
    assert failed_indexes(aggregated(dag_run, store)) == [22]
    refusing(shop, set())
    run_all(dag_run, chunks)
    assert shop.calls == {"/22": 1}
    assert paths(dag_run, store) == PATHS


def test_exactly_the_selected_items_run_again(begin, shop):
    refusing(shop, {3, 30})
    store, dag_run, chunks = begin()
    run_all(dag_run, chunks)
    sizes = counts(dag_run)
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    # The first and the last item of each chunk.
    selected = {number: sorted({0, count - 1}) for number, count in enumerate(sizes)}
    dag_run.xcoms["f.chunks", -1, Key.RERUN] = ForkSelection.of(1, selected).encode()
    refusing(shop, set())
    for number, chunk in enumerate(chunks):
        dag_run.run("f.chunk", number, chunk, (2, 1))
    expected = {f"/{firsts[number] + n}" for number, items in selected.items() for n in items}
    assert shop.calls == dict.fromkeys(expected, 1)
    left = {n for n in (3, 30) if f"/{n}" not in expected}
    assert set(failed_indexes(aggregated(dag_run, store))) == left


@pytest.mark.parametrize("seed", range(3))
def test_a_chunk_killed_at_any_write_loses_no_item_and_repeats_none_that_has_a_result(
    begin, use_store, shop, seed
):
    chance = random.Random(seed)
    writes, last_is_kept = chance.randrange(1, 6), chance.random() < 0.5
    store, dag_run, chunks = begin(maxChunks=1)
    (chunk,) = chunks
    use_store(DyingStore(store, writes, last_is_kept=last_is_kept))
    dag_run.run("f.chunk", 0, chunk)
    # A part, index and manifest: more writes are a matter of time, and then it is killed after the last one.
    assert dag_run.states["f.chunk_0"] == "failed" or writes >= 3
    dag_run.kill("f.chunk", 0)
    use_store(store)
    kept = stored_items(store, "results")
    assert kept
    before = shop.calls.copy()
    dag_run.run("f.chunk", 0, chunk)
    assert set(shop.calls - before) == {f"/{n}" for n in set(ALL) - set(kept)}
    assert stored_items(store, "results") == dict.fromkeys(ALL, 1)
    assert paths(dag_run, store) == PATHS


@pytest.mark.parametrize("source", [SOURCES[0], SOURCES[3]], ids=str, indirect=True)
@pytest.mark.parametrize("seed", range(2))
def test_a_chunk_killed_by_the_kernel_loses_no_item_and_counts_none_twice(begin, tmp_path, shop, seed):
    chance = random.Random(seed)
    store, dag_run, chunks = begin(LocalStore(tmp_path), maxChunks=1)
    (chunk,) = chunks
    killer = Killer(chance.randint(5, COUNT), chance.random() / 200)
    shop.answer = killer.answer
    assert not run_chunk(dag_run, 0, chunk, killer)
    kept = stored_items(store, "results")
    refusing(shop, set())
    assert run_chunk(dag_run, 0, chunk)
    assert not {f"/{n}" for n in kept} & set(shop.calls)
    assert stored_items(store, "results") == dict.fromkeys(ALL, 1)
    assert paths(dag_run, store) == PATHS
