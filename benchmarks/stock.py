"""Forks on a stock ``airflow standalone`` with SQLite and nothing set; its API is asked every two seconds.

``items_N_R`` is the duration of run R of a fork of two steps over a list of N items. ``locks`` is how many
log lines report ``database is locked``; it must be 0, and every run must succeed. The wheel of this project
is built and used, and Airflow loads its own examples too, as for a new user.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.measure import Measure
from tests.support.stock_airflow import WheelEnvironment, stock_airflow, wait_for_dags
from tests.support.stock_forks import DAG_ID, FLOW, lock_lines, run_fork

SIZES = (30, 300, 3000)


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
                    measures[f"items_{items}_{number}"] = Measure(run_fork(client, items), "s")
        locks = lock_lines(home)
    assert not locks, locks
    return {**measures, "locks": Measure(0.0, "lines")}
