"""A run over items of which some fail, whose items tests rerun over Airflow's API as the page does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from demo.airflow_client import AirflowClient
from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import Json, branch, flow, fork
from tests.airflow.shop import Shop


def write_items(manifest: Path, count: int, chunks: int) -> None:
    """Write lines that are split into chunks of equal numbers of items."""
    # A blank line is no item; with them, no line begins exactly where a chunk does.
    lines = "".join(f'{{"id": {n:7d}}}\n' for n in range(count))
    manifest.write_text("\n" * chunks + lines, encoding="utf-8")


def items_flow(dag_id: str, shop: Shop, manifest: Path, chunks: int) -> Json:
    """Return a flow that asks the shop for each item of a manifest, in chunks; results are stored."""
    options = {
        "chunkBytes": -(-manifest.stat().st_size // chunks),
        "maxChunks": chunks,
        "offloadLocation": f"file://{manifest.parent}",
    }
    data = {"items": "$.initialContextData.p", "dataPath": "$.steps_output.w.data"}
    return flow(dag_id, {"f": fork(branch("w"), **data), "w": ask(shop)}, airflow=options)


class ItemReruns:
    """A finished run of a flow with the fork ``f``.

    Args:
        ran: the run.
        shop: what its items ask.
        failing: item -> the HTTP status that the shop answers until it is removed here.
    """

    def __init__(self, ran: FinishedRun, shop: Shop, failing: dict[int, int] | None = None) -> None:
        self.ran, self.client, self.shop = ran, ran.client, shop
        self.failing = {} if failing is None else failing
        self.fork = f"dags/{ran.dag_id}/runs/{quote(ran.run_id, safe='')}/forks/f"

    @classmethod
    def run(
        cls, client: AirflowClient, dag_id: str, shop: Shop, manifest: Path, failing: Mapping[int, int]
    ) -> Self:
        """Run the flow that ``items_flow`` returned.

        Args:
            client: Airflow.
            dag_id: the flow.
            shop: what it asks.
            manifest: the items.
            failing: item -> HTTP status, as above.
        """
        left = dict(failing)
        shop.answer = lambda path, number: (left.get(_item(path), 200), {"path": path, "call": number})
        pointer = {"p": {"bucket": "file://", "key": str(manifest).lstrip("/")}}
        return cls(FinishedRun(client, dag_id, pointer, timeout=1800.0), shop, left)

    def calls(self) -> Counter[str]:
        """Return how often each path was requested since the last call."""
        calls, self.shop.calls = self.shop.calls, Counter()
        return calls

    def called(self) -> Counter[int]:
        """Return the same by item."""
        return Counter({_item(path): count for path, count in self.calls().items()})

    def plan(self, **query: Any) -> dict[str, Any]:
        """Return what a rerun would do."""
        plan: dict[str, Any] = self.client.call("GET", f"{self.fork}/rerun", api="allma/api", **query)
        return plan

    def rerun(self, **query: Any) -> Counter[str]:
        """Rerun as the page does; return how often each path was requested."""
        plan = self.plan(**query)
        assert plan["blocked"] is None, plan["blocked"]
        if (selection := plan["selection"]) is not None:
            self.client.call(selection["method"], selection["path"], body=selection["body"])
        self.client.call("POST", f"dags/{self.ran.dag_id}/clearTaskInstances", body=plan["clear"])
        self.ran.wait_again()
        return self.calls()

    def rerun_items(self, **query: Any) -> set[int]:
        """Do the same; return the items that were requested, each once: as many as were promised."""
        promised = self.plan(**query)["items"]
        called = self.rerun(**query)
        assert set(called.values()) == {1}, called
        assert len(called) == promised
        return {_item(path) for path in called}

    def kinds(self) -> dict[int, dict[str, Any]]:
        """Return the failures by HTTP status."""
        summary = self.client.call("GET", self.fork, api="allma/api")
        return {kind["status"]: kind for kind in summary["kinds"]}

    def results(self) -> list[Any]:
        """Return the joined results."""
        data = self.ran.xcom("f.aggregate")["aggregatedData"]
        if isinstance(data, list):
            return data
        pointer = data["_s3_output_pointer"]
        return [json.loads(line) for line in Path("/", pointer["key"]).read_text().splitlines()]

    def details(self, below: str = "") -> dict[str, Any]:
        """Return what Airflow's API says of the run, or of something below it."""
        path = f"dags/{self.ran.dag_id}/dagRuns/{quote(self.ran.run_id, safe='')}{below}"
        details: dict[str, Any] = self.client.call("GET", path)
        return details


def _item(path: str) -> int:
    return int(path.rpartition("/")[2])
