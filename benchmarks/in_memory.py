"""A fork of 300 items with two steps each on a real Airflow, against the same Dag written by hand.

``steps`` has one mapped task instance per step and item, like the hand-written Dag (``by_hand``), which is
the reference. ``branch`` has ``branchGranularity: branch``: one task instance per item. Each value is the
median of the seconds from the run's start to its end over ``--rounds`` runs. The three Dags take turns, after
a small warm-up run of each. ``xcoms`` and ``xcom_bytes`` count the XComs of a run of ``steps``.
LocalExecutor, PostgreSQL if it is installed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.airflow_runs import RunFigures, airflow, database, run_dag
from benchmarks.measure import Measure

BY_HAND = """
from airflow.sdk import dag, task, task_group


@dag(dag_id="by-hand", schedule=None)
def by_hand():
    @task
    def items(params):
        return params["items"]

    @task
    def first(item):
        return {"id": item["id"], "kind": "user"}

    @task
    def second(record):
        return {"id": record["id"], "name": record["kind"]}

    @task
    def collect(records):
        return list(records)

    @task_group
    def each(item):
        return second(first(item))

    collect(each.expand(item=items()))


by_hand().params.update({"items": []})
"""


def _flow(name: str, granularity: str) -> dict[str, Any]:
    step = {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": "system/compose-object-from-input"}
    return {
        "id": name,
        "startStepInstanceId": "fork",
        "airflow": {"branchGranularity": granularity},
        "steps": {
            "fork": {
                "stepType": "PARALLEL_FORK_MANAGER",
                "itemsPath": "$.initialContextData.items",
                "parallelBranches": [{"branchId": "each", "stepInstanceId": "first"}],
            },
            "first": {
                **step,
                "inputMappings": {"id": "$.currentItem.id"},
                "literals": {"kind": "user"},
                "defaultNextStepInstanceId": "second",
            },
            "second": {
                **step,
                "inputMappings": {"id": "$.steps_output.first.id", "name": "$.steps_output.first.kind"},
            },
        },
    }


def run(items: int = 300, rounds: int = 3) -> dict[str, Measure]:
    conf = {"items": [{"id": number} for number in range(items)]}
    names = ("by-hand", "steps", "branch")
    times: dict[str, list[float]] = {name: [] for name in names}
    rows: dict[str, RunFigures] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        flows = [_flow("steps", "step"), _flow("branch", "branch")]
        with airflow(Path(folder), flows, {"by_hand": BY_HAND}) as instance:
            for name in names:
                run_dag(instance, name, {"items": conf["items"][:2]})
            for turn in range(1, rounds + 1):
                for name in names:
                    figures = run_dag(instance, name, conf)
                    # A round takes minutes: show progress.
                    print(f"round {turn} of {rounds}, {name}: {figures.seconds:.1f} s", file=sys.stderr)
                    times[name].append(figures.seconds)
                    rows[name] = figures
            parallelism = instance.parallelism
    by_hand, steps, branch = (statistics.median(times[name]) for name in names)
    return {
        "by_hand": Measure(by_hand, "s"),
        "steps": Measure(steps, "s", by_hand),
        "branch": Measure(branch, "s", by_hand),
        **{
            name: Measure(getattr(rows["steps"], name), unit, getattr(rows["by-hand"], name))
            for name, unit in (
                ("task_instances", "task instances"),
                ("xcoms", "XCom rows"),
                ("xcom_bytes", "bytes of JSON in XComs"),
            )
        },
        "items": Measure(items, "items"),
        "tasks_at_once": Measure(parallelism, f"tasks on {database()}"),
    }
