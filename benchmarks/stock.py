"""Forks on a stock ``airflow standalone`` with SQLite and nothing set; its API is asked every two seconds.

``items_N_R`` is the duration of run R of a fork of two steps over a list of N items. ``locks`` is how many
log lines report ``database is locked``; it must be 0, and every run must succeed. The wheel of this project
is built and used, and Airflow loads its own examples too, as for a new user.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.measure import Measure
from demo.airflow_client import AirflowClient
from tests.support.stock_airflow import WheelEnvironment, stock_airflow, wait_for_dags

SIZES = (30, 300, 3000)
POLL_SECONDS = 2.0
RUN_SECONDS = 1800.0
DAG_ID = "stock-fork"
_COMPOSE = {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": "system/compose-object-from-input"}
FLOW = {
    "id": DAG_ID,
    "startStepInstanceId": "fork",
    "steps": {
        "fork": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.initialContextData.items",
            "parallelBranches": [{"branchId": "each", "stepInstanceId": "first"}],
            "aggregationConfig": {"strategy": "COLLECT_ARRAY"},
        },
        "first": {
            **_COMPOSE,
            "inputMappings": {"n": "$.currentItem.n"},
            "defaultNextStepInstanceId": "second",
        },
        "second": {**_COMPOSE, "inputMappings": {"n": "$.steps_output.first.n"}},
    },
}


def run(rounds: int = 3, most: int = SIZES[-1]) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as name:
        folder = Path(name)
        environment = WheelEnvironment(folder, Path(__file__).parents[1])
        home = folder / "airflow"
        environment.run("airflow-allma", "init", home / "dags", cwd=folder)
        (home / "dags" / "fork.json").write_text(json.dumps(FLOW), encoding="utf-8")
        with stock_airflow(environment, home, {}, is_patient=False) as client:
            wait_for_dags(client, [DAG_ID])
            client.call("PATCH", f"dags/{DAG_ID}", body={"is_paused": False})
            for number in range(1, rounds + 1):
                for items in [size for size in SIZES if size <= most]:
                    measures[f"items_{items}_{number}"] = Measure(run_once(client, items), "s")
        measures["locks"] = Measure(float(len(lock_lines(home))), "lines")
    assert measures["locks"].value == 0, measures
    return measures


def run_once(client: AirflowClient, items: int) -> float:
    """Run the fork, asking for the run and its task instances all the time; return its seconds."""
    run_id = client.trigger(DAG_ID, {"items": [{"n": number} for number in range(items)]})
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        found = client.run(DAG_ID, run_id)
        states = [task.state for task in client.task_instances(DAG_ID, run_id)]
        if found["state"] in ("success", "failed"):
            break
        time.sleep(POLL_SECONDS)
    assert found["state"] == "success", (found, states)
    data = client.xcom(DAG_ID, run_id, "fork.aggregate")["aggregatedData"]
    assert data == [{"n": number} for number in range(items)]
    began, ended = (datetime.fromisoformat(found[key]) for key in ("start_date", "end_date"))
    return (ended - began).total_seconds()


def lock_lines(home: Path) -> list[str]:
    """Return the lines of all log files that report a locked database."""
    return [
        f"{file.relative_to(home)}: {line[:300]}"
        for file in sorted((home / "logs").rglob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if re.search("database is locked", line)
    ]
