"""Forks with an ``itemBatcher`` have the same results in every execution mode."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.operators.xcoms import Key, pull
from airflow_allma.storage import OffloadLocation
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.test_fork_numbers import in_chunks, in_process

pytestmark = pytest.mark.airflow

Json = dict[str, Any]

SMALL = {"maxInMemoryItems": 1, "maxInMemoryBytes": 1, "chunkBytes": 30, "maxChunks": 3}
WORK = compose(
    {"v": "$.currentItem.items", "in": "$.currentItem.batchInput", "ok": "$.currentItem.items[0].n"},
    outputValidation={"requiredFields": ["$.ok"]},
)


def flow_with(batcher: Json, **aggregation: Any) -> Json:
    fan = {**fork(branch("w"), **aggregation), "itemBatcher": batcher}
    return flow("batches", {"f": fan, "w": WORK})


def source_of(items: list[Any], folder: Path, kind: str) -> Any:
    if kind == "list":
        return [item for item in items if item is not ...]
    lines = ["{bad" if item is ... else json.dumps(item) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines))
    location = OffloadLocation.parse(folder.as_uri())
    assert location is not None
    return {**location.pointer("x").inner(), "key": f"{location.prefix}/items.jsonl"}


def expected(items: list[Any], most: int) -> tuple[list[Any], int]:
    """Return the results of the batches by the definition, and how many items failed."""
    batches: list[list[Any]] = []
    for item in items:
        if item is ... or not batches or batches[-1] == [...] or len(batches[-1]) == most:
            batches.append([])
        batches[-1].append(item)
    results = [
        {"v": batch, "in": {"shop": "s1", "n": 3}, "ok": batch[0]["n"]}
        if batch[0] is not ... and "n" in batch[0]
        else None
        for batch in batches
    ]
    return results, sum(len(b) for b, result in zip(batches, results, strict=True) if result is None)


ITEMS = st.lists(st.fixed_dictionaries({}, optional={"n": st.integers(0, 9)}) | st.just(...), max_size=9)


@settings(deadline=None, max_examples=40)
@given(ITEMS, st.integers(1, 4), st.sampled_from(["list", "lines"]), st.booleans())
def test_batches_have_the_same_results_in_every_mode(items, most, kind, by_path):
    if kind == "list":
        items = [item for item in items if item is not ...]
    batcher = {
        "maxItemsPerBatch": "$.initialContextData.most" if by_path else most,
        "batchInput": {"shop": "{{initialContextData.shop}}", "n": "$.initialContextData.number"},
    }
    written = flow_with(batcher, failOnBranchError=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        payload = {"items": source_of(items, folder, kind), "most": most, "shop": "s1", "number": 3}
        wanted, failed = expected(items, most)
        counts = flow_with(batcher, failOnBranchError=False, strategy="NONE")
        for run in (in_process, lambda *args: in_chunks(*args, **SMALL)):
            data = run(written, payload, folder)["aggregatedData"]
            assert [None if "error" in one else one for one in data] == wanted
            counted = run(counts, payload, folder)
            assert (counted["branchCount"], counted["failedBranchCount"]) == (len(items), failed)


@pytest.mark.parametrize(
    ("tolerance", "fails"),
    [
        ({"toleratedFailureCount": 3}, False),
        ({"toleratedFailureCount": 2}, True),
        ({"toleratedFailurePercentage": 37.5}, False),
        ({"toleratedFailurePercentage": 37}, True),
    ],
)
def test_failures_are_tolerated_by_item(tolerance, fails, tmp_path):
    # One batch of three fails, of eight items in three batches.
    payload = {"items": [{"n": 0}, {}, {}, {}, {}, {}, {"n": 6}, {}]}
    written = flow_with({"maxItemsPerBatch": 3}, **tolerance)
    for outcome in (in_process(written, payload, tmp_path), in_chunks(written, payload, tmp_path, **SMALL)):
        assert isinstance(outcome, tuple) == fails
        if fails:
            assert outcome[2:] == (3, 8)


def test_a_list_in_memory_has_a_mapped_instance_for_each_batch(run):
    payload = {"items": [{"n": 0}, {"n": 1}, {"n": 2}, {}, {}], "shop": "s1"}
    batcher = {"maxItemsPerBatch": 2, "batchInput": {"shop": "$.initialContextData.shop"}}
    ended = run(flow_with(batcher, toleratedFailureCount=1)["steps"], payload)
    assert ended.state == "success"
    assert ended.states("f.b.w") == {0: "success", 1: "success", 2: "failed"}
    assert ended.labels("f.b.w") == {0: "items 0-1", 1: "items 2-3", 2: "item 4"}
    data = ended.xcom("f.aggregate")["aggregatedData"]
    assert data[1] == {"v": [{"n": 2}, {}], "in": {"shop": "s1"}, "ok": 2}
    details = data[2]["error"]["errorDetails"]
    assert (details["firstItemIndex"], details["itemCount"]) == (4, 1)
    failed = run(flow_with(batcher)["steps"], payload)
    assert "1 of 5 branch runs failed" in failed.xcom("f.aggregate", key="allma_error")["errorMessage"]


def test_chunks_of_a_list_in_the_data_of_the_run_have_whole_batches():
    items = [{"n": number} for number in range(7)]
    written = {**flow_with({"maxItemsPerBatch": 2}), "airflow": {"maxInMemoryItems": 2}}
    dag_run = FakeDagRun(written, {"items": items})
    planned = dag_run.plan("f")
    assert [chunk["count"] for chunk in planned] == [2, 2]
    for number, chunk in enumerate(planned):
        dag_run.run("f.chunk", number, chunk)
    data = dag_run.run("f.aggregate")["aggregatedData"]
    assert [one["v"] for one in data] == [items[0:2], items[2:4], items[4:6], items[6:]]


def test_only_a_failed_batch_runs_again(tmp_path):
    items = [{"n": 0}, {"n": 1}, {}, {"n": 3}, {"n": 4}]
    written = flow_with({"maxItemsPerBatch": 2}, failOnBranchError=True)
    options = {"offloadLocation": tmp_path.as_uri(), **SMALL, "chunkBytes": 1000}
    dag_run = FakeDagRun({**written, "airflow": options}, {"items": source_of(items, tmp_path, "lines")})
    (chunk,) = dag_run.plan("f")
    dag_run.run("f.chunk", 0, chunk)
    before = {path.name for path in tmp_path.glob("**/parts/*.jsonl")}
    dag_run.run("f.chunk", 0, chunk, tries=(2, 0))
    added = [path for path in tmp_path.glob("**/parts/*.jsonl") if path.name not in before]
    lines = [json.loads(line) for path in added for line in path.open()]
    assert [(line["item"], line["items"], line["status"]) for line in lines] == [(1, 2, "failed")]


def test_batches_of_an_object_need_an_offload_location(tmp_path):
    written = flow_with({"maxItemsPerBatch": 2})
    dag_run = FakeDagRun(written, {"items": {"bucket": "data", "key": "a.jsonl"}})
    dag_run.plan("f")
    assert dag_run.states["f.chunks"] == "failed"
    message = pull(dag_run.instance("x"), "f.chunks", Key.ERROR)["errorMessage"]
    assert "itemBatcher" in message
    assert "offload_location" in message
