"""Reruns of failed items, of one kind of failures and of one good item among 100,000, in a real Airflow.

Run it with ``python -m tests.airflow.full_size.item_reruns [ITEMS]``; it prints one JSON object. PostgreSQL
must be installed. 37 items fail, in three ways. Each rerun must request exactly its items, each once, and in
the end all results must be right.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from tests.airflow.shop import open_shop
from tests.support.item_reruns import ItemReruns, items_flow, write_items

DAG = "rerun-items"
CHUNKS = 20
STATUSES = (404,) * 20 + (403,) * 10 + (422,) * 7


def main(count: int) -> int:
    chosen = random.Random(3).sample(range(count), len(STATUSES) + 1)
    failing, good = dict(zip(chosen, STATUSES, strict=False)), chosen[-1]
    with tempfile.TemporaryDirectory(prefix="allma-rerun-") as folder, open_shop() as shop:
        root = Path(folder)
        (root / "dags").mkdir()
        manifest = root / "m.jsonl"
        write_items(manifest, count, CHUNKS)
        write_loader(root / "dags")
        written = items_flow(DAG, shop, manifest, CHUNKS)
        (root / "dags" / "flow.json").write_text(json.dumps(written), encoding="utf-8")
        with AirflowInstance(root / "airflow", [root / "dags"], database="postgresql") as instance:
            instance.client.wait_for_dag(DAG, timeout=120)
            began = time.monotonic()
            items = ItemReruns.run(instance.client, DAG, shop, manifest, failing)
            first_run = time.monotonic() - began
            assert items.called() == Counter(range(count))
            kinds = {status: kind["kind"] for status, kind in items.kinds().items()}
            reruns = {}
            for name, expected, query in (
                ("all 37 failed items", set(failing), {"what": "failed"}),
                (
                    "the 10 items of one kind",
                    {item for item, status in failing.items() if status == 403},
                    {"what": "kind", "kind": kinds[403]},
                ),
                ("one good item", {good}, {"what": "item", "index": good}),
            ):
                reruns[name] = _rerun(items, expected, query)
            items.failing.clear()
            reruns["all 37, without the cause"] = _rerun(items, set(failing), {"what": "failed"})
            results = [one["path"] for one in items.results()]
            state = items.ran.state
    are_right = results == [f"/items/{n}" for n in range(count)]
    report = {
        "items": count,
        "chunks": CHUNKS,
        "first_run_seconds": round(first_run, 1),
        "reruns": reruns,
        "state": state,
        "results_are_right": are_right,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if are_right and state == "success" else 1


def _rerun(items: ItemReruns, expected: set[int], query: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    plan_seconds = time.monotonic()
    items.plan(**query)
    plan_seconds = time.monotonic() - plan_seconds
    called = items.rerun_items(**query)
    assert called == expected, (len(called), len(expected))
    return {
        "requests": len(called),
        "seconds": round(time.monotonic() - began, 1),
        "plan_seconds": round(plan_seconds, 3),
    }


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
