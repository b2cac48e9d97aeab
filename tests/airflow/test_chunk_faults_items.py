"""Items that fail, and items of two concurrent runs."""

from __future__ import annotations

import random
import threading

import pytest

from airflow_allma.storage import Pointer
from airflow_allma.storage.memory import MemoryStore
from tests.airflow.shop import Answer
from tests.support.faulty_runs import (
    aggregated,
    asking,
    content_of,
    failed_indexes,
    manifest,
    manifest_run,
    run_all,
)

pytestmark = pytest.mark.airflow


def test_of_a_hundred_thousand_lines_a_thousand_bad_ones_fail_with_their_indexes_and_all_others_run(
    use_store,
):
    store = use_store(MemoryStore())
    count = 100_000
    bad = set(random.Random(11).sample(range(count), 1000))
    text, places = bytearray(), []
    for n in range(count):
        if n % 997 == 0:
            text += b"\r\n"  # a blank line is not an item, but editors count it as a line
        places.append((text.count(b"\n", places[-1][1]) + places[-1][0] if places else 2, len(text)))
        text += (b'{"n": %d,\n' if n in bad else b'{"n": %d, "v": "old"}\n') % n
    store.write(Pointer("data", "m.jsonl"), bytes(text))
    dag_run = manifest_run(Pointer("data", "m.jsonl"), "s3://data/r", chunkBytes=300_000, maxChunks=8)
    chunks = dag_run.plan("f")
    assert len(chunks) > 5
    run_all(dag_run, chunks)
    data = aggregated(dag_run, store)
    assert len(data) == count
    assert set(failed_indexes(data)) == bad
    for n, one in enumerate(data):
        if n in bad:
            line, offset = places[n]
            details = one["error"]["errorDetails"]
            assert (details["itemIndex"], details["lineNumber"], details["byteOffset"]) == (n, line, offset)
            assert f"Line {line}:" in one["error"]["errorMessage"]
        else:
            assert one == {"n": n, "v": "old"}


def test_an_item_whose_step_hangs_fails_alone_and_runs_again_alone(use_store, shop, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__STEP_TIMEOUT_SECONDS", "1")
    store = use_store(MemoryStore())
    over = threading.Event()

    def answer(path: str, call: int) -> Answer:
        if (path, call) == ("/7", 1):
            over.wait(60)
        return 200, {"path": path}

    shop.answer = answer
    store.write(Pointer("data", "m.jsonl"), manifest(40))
    dag_run = manifest_run(Pointer("data", "m.jsonl"), "s3://data/r", asking(shop), chunkBytes=1 << 20)
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks)
    data = aggregated(dag_run, store)
    over.set()
    assert failed_indexes(data) == [7]
    assert data[7]["error"]["errorName"] == "StepTimeoutError"
    assert "[allma] step_timeout_seconds" in data[7]["error"]["errorMessage"]
    run_all(dag_run, chunks)
    assert [one["data"]["path"] for one in aggregated(dag_run, store)] == [f"/{n}" for n in range(40)]
    assert shop.calls == {f"/{n}": 2 if n == 7 else 1 for n in range(40)}


def test_two_runs_of_a_flow_over_one_manifest_do_not_see_each_others_results(use_store, shop, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__OUTPUT_OFFLOAD_BYTES", "100")
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    shop.answer = lambda path, call: (200, {"path": path, "call": call})
    runs = [
        manifest_run(source, "s3://results/r", asking(shop), run_id=name, chunkBytes=400, maxChunks=4)
        for name in ("one", "two")
    ]
    plans = [dag_run.plan("f") for dag_run in runs]
    for number in range(4):
        for dag_run, chunks in zip(runs, plans, strict=True):
            dag_run.run("f.chunk", number, chunks[number])
    assert shop.calls == {f"/{n}": 2 for n in range(40)}
    joined = [dag_run.run("f.aggregate")["aggregatedData"] for dag_run in runs]
    assert all(isinstance(data, dict) for data in joined)
    for call, data in enumerate(joined, start=1):
        found = [one["data"] for one in content_of(data, store)]
        assert found == [{"path": f"/{n}", "call": call} for n in range(40)]
