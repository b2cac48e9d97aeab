"""A fork of 300 items with two steps each through Airflow, beside the same Dag written by hand.

``steps`` has a mapped task instance for each step of each item, as the hand-written Dag has, which is the
reference; ``branch`` has ``branchGranularity: branch``, one for each item. Seconds are from the run's start
to its end, the median of ``--rounds`` runs, which take turns, after a small one of each. LocalExecutor,
PostgreSQL where it is installed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.airflow_runs import airflow, database, run_dag
from benchmarks.measuring import Measure

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
    def second(made):
        return {"id": made["id"], "name": made["kind"]}

    @task
    def collect(made):
        return list(made)

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
    taken: dict[str, list[float]] = {name: [] for name in names}
    rows: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        flows = [_flow("steps", "step"), _flow("branch", "branch")]
        with airflow(Path(folder), flows, {"by_hand": BY_HAND}) as instance:
            for name in names:
                run_dag(instance, name, {"items": conf["items"][:2]})
            for turn in range(1, rounds + 1):
                for name in names:
                    ran = run_dag(instance, name, conf)
                    # A round takes minutes: who waits wants to see that it goes on.
                    print(f"round {turn} of {rounds}, {name}: {ran.seconds:.1f} s", file=sys.stderr)
                    taken[name].append(ran.seconds)
                    rows[name] = ran.task_instances
            parallelism = instance.parallelism
    by_hand, steps, branch = (statistics.median(taken[name]) for name in names)
    return {
        "by_hand": Measure(by_hand, "s"),
        "steps": Measure(steps, "s", by_hand),
        "branch": Measure(branch, "s", by_hand),
        "task_instances": Measure(rows["steps"], "task instances", rows["by-hand"]),
        "items": Measure(items, "items"),
        "tasks_at_once": Measure(parallelism, f"tasks on {database()}"),
    }
