"""Forks on a stock Airflow whose API is asked for the run and its tasks all the time, as the UI does."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from demo.airflow_client import AirflowClient

DAG_ID: Final = "stock-fork"
POLL_SECONDS: Final = 2.0
_COMPOSE: Final = {
    "stepType": "DATA_TRANSFORMATION",
    "moduleIdentifier": "system/compose-object-from-input",
}
FLOW: Final[dict[str, Any]] = {
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
"""A fork of two steps over the list ``items`` of the payload."""


def run_fork(client: AirflowClient, items: int, timeout: float = 1800.0) -> float:
    """Run the fork over this many items, which must succeed; return the seconds from its start to its end."""
    run_id = client.trigger(DAG_ID, {"items": [{"n": number} for number in range(items)]})
    deadline = time.monotonic() + timeout
    while True:
        run = client.run(DAG_ID, run_id)
        states = {
            (task.task_id, task.map_index): task.state for task in client.task_instances(DAG_ID, run_id)
        }
        if run["state"] in {"success", "failed"} or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    assert run["state"] == "success", (run, states)
    data = client.xcom(DAG_ID, run_id, "fork.aggregate")["aggregatedData"]
    assert data == [{"n": number} for number in range(items)]
    began, ended = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    return (ended - began).total_seconds()


def lock_lines(home: Path) -> list[str]:
    """Return the lines of all log files that report a locked database, each with its file."""
    return [
        f"{file.relative_to(home)}: {line[:300]}"
        for file in sorted((home / "logs").rglob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if "database is locked" in line
    ]
