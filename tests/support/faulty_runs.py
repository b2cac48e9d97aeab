"""Runs of a flow over a manifest, whose tasks tests run one by one while they break things around them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.operators.xcoms import NOT_MAPPED, Key
from airflow_allma.storage import Pointer
from airflow_allma.storage.object_store import ObjectStore
from tests.airflow.by_hand import Desk, TaskInstance
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import Shop

WORK = {"w": compose({"n": "$.currentItem.n", "v": "$.currentItem.v"})}
"""Steps that give each item back."""


@dataclass
class Run(Desk):
    """One of several runs of a flow."""

    run_id: str = "run-1"

    def instance(self, task_id: str, map_index: int = NOT_MAPPED) -> TaskInstance:
        """A try of a task of this run."""
        return replace(super().instance(task_id, map_index), run_id=self.run_id)


def manifest(count: int, version: str = "old", padding: int = 0) -> bytes:
    """Lines of one length: contents that differ in the version alone have their lines at the same places."""
    rest = f'"v": "{version}", "p": "{"x" * padding}"'
    return "".join(f'{{"n": {n:5d}, {rest}}}\n' for n in range(count)).encode()


def desk_of(
    where: Pointer,
    location: str,
    steps: dict[str, Any] = WORK,
    *,
    run_id: str = "run-1",
    **options: Any,
) -> Run:
    """A run that forks over the lines of an object; ``options`` are the flow's ``airflow`` object."""
    fan = fork(branch("w"), items="$.initialContextData.p", failOnBranchError=False, maxConcurrency=8)
    written = flow("faults", {"f": fan, **steps}, airflow={"offloadLocation": location, **options})
    return Run(written, {"p": {"bucket": where.bucket, "key": where.key}}, run_id=run_id)


def asking(shop: Shop) -> dict[str, Any]:
    """Steps that ask the shop for each item."""
    url = {"template": shop.url + "/{{currentItem.n}}"}
    return {"w": {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": url}}


def run_all(desk: Desk, chunks: list[dict[str, Any]]) -> None:
    """Run every chunk."""
    for number, chunk in enumerate(chunks):
        desk.run("f.chunk", number, chunk)


def error_of(desk: Desk, number: int) -> str:
    """What a chunk that failed says."""
    assert desk.states[f"f.chunk_{number}"] == "failed"
    return str(json.loads(desk.xcoms["f.chunk", number, Key.ERROR])["errorMessage"])


def aggregated(desk: Desk, store: ObjectStore) -> list[Any]:
    """What the fork comes to, wherever it is kept."""
    return content_of(desk.run("f.aggregate")["aggregatedData"], store)


def content_of(data: Any, store: ObjectStore) -> list[Any]:
    """The list itself, or the lines of the object that it is kept in."""
    pointer = Pointer.parse(data)
    return data if pointer is None else [json.loads(line) for line in store.read(pointer).splitlines()]


def stored_items(store: ObjectStore, bucket: str, chunk: int = 0) -> Counter[int]:
    """How many results of each item of a chunk lie in parts."""
    folder = f"/{chunk:06d}/parts/"
    try:
        keys = [info.pointer for info in store.list(bucket) if folder in info.pointer.key]
    except ObjectNotFoundError:
        return Counter()  # nobody has written anything there
    return Counter(json.loads(line)["item"] for key in keys for line in store.read(key).splitlines())


def lost(data: list[Any]) -> list[int]:
    """The places of errors."""
    return [place for place, one in enumerate(data) if "error" in one]
