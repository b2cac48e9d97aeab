"""Runs of a flow over a manifest, whose tasks tests execute one by one while stores and processes fail."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.operators.xcoms import Key
from airflow_allma.storage import Pointer
from airflow_allma.storage.object_store import ObjectStore
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import Shop
from tests.support.item_sources import SPLIT, ItemSource, WrittenItems

WORK = {"w": compose({"n": "$.currentItem.n", "v": "$.currentItem.v"})}
"""Steps that return each item."""


def manifest(count: int, version: str = "old", padding: int = 0) -> bytes:
    """Return lines of equal length, so that all versions have their lines at the same offsets."""
    rest = f'"v": "{version}", "p": "{"x" * padding}"'
    return "".join(f'{{"n": {n:5d}, {rest}}}\n' for n in range(count)).encode()


def manifest_run(
    pointer: Pointer,
    location: str,
    steps: dict[str, Any] = WORK,
    *,
    run_id: str = "run-1",
    **options: Any,
) -> FakeDagRun:
    """Return a run that forks over the lines of an object; ``options`` are the flow's ``airflow`` object."""
    fork_step = fork(branch("w"), items="$.initialContextData.p", failOnBranchError=False, maxConcurrency=8)
    document = flow("faults", {"f": fork_step, **steps}, airflow={"offloadLocation": location, **options})
    return FakeDagRun(document, {"p": {"bucket": pointer.bucket, "key": pointer.key}}, run_id=run_id)


def source_run(
    source: ItemSource,
    written: WrittenItems,
    location: str,
    steps: dict[str, Any] | None = None,
    **options: Any,
) -> FakeDagRun:
    """Return a run that forks over items of any format, in several chunks, as ``manifest_run`` does.

    Without steps, each item returns its ``n`` and ``v``.
    """
    at = f"$.{source.at}"
    fork_step = fork(
        branch("w"),
        items="$.initialContextData.p",
        itemReader=source.reader,
        itemLabelPath=source.label_path,
        failOnBranchError=False,
    )
    steps = steps or {"w": compose({"n": f"{at}.n", "v": f"{at}.v"})}
    airflow = {"offloadLocation": location, **SPLIT, **options}
    document = flow("sources", {"f": fork_step, **steps}, airflow=airflow)
    return FakeDagRun(document, {"p": written.pointer})


def asking(shop: Shop, at: str = "currentItem") -> dict[str, Any]:
    """Return steps that request each item from the shop; ``at`` names what has its number."""
    url = {"template": shop.url + "/{{" + at + ".n}}"}
    return {"w": {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": url}}


def run_all(dag_run: FakeDagRun, chunks: list[dict[str, Any]]) -> None:
    """Run every chunk."""
    for number, chunk in enumerate(chunks):
        dag_run.run("f.chunk", number, chunk)


def error_of(dag_run: FakeDagRun, number: int) -> str:
    """Return the error message of a chunk that failed."""
    assert dag_run.states[f"f.chunk_{number}"] == "failed"
    return str(json.loads(dag_run.xcoms["f.chunk", number, Key.ERROR])["errorMessage"])


def aggregated(dag_run: FakeDagRun, store: ObjectStore) -> list[Any]:
    """Run the aggregate task and return its ``aggregatedData``, also if it was offloaded."""
    return content_of(dag_run.run("f.aggregate")["aggregatedData"], store)


def content_of(data: Any, store: ObjectStore) -> list[Any]:
    """Return the list itself, or the lines of the object that a pointer refers to."""
    pointer = Pointer.parse(data)
    return data if pointer is None else [json.loads(line) for line in store.read(pointer).splitlines()]


def stored_items(store: ObjectStore, bucket: str, chunk: int = 0) -> Counter[int]:
    """Return how many results of each item the stored parts of a chunk have."""
    folder = f"/{chunk:06d}/parts/"
    try:
        keys = [info.pointer for info in store.list(bucket) if folder in info.pointer.key]
    except ObjectNotFoundError:
        return Counter()  # nothing was written yet
    return Counter(json.loads(line)["item"] for key in keys for line in store.read(key).splitlines())


def failed_indexes(data: list[Any]) -> list[int]:
    """Return the indexes of items that have an error instead of a result."""
    return [index for index, result in enumerate(data) if "error" in result]
