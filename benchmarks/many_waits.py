"""What many waits cost everybody else: a trivial run beside 2,000 waits, against one beside none.

Measured on one Airflow with PostgreSQL and LocalExecutor, with nothing else to do: seconds from the start of
a trivial run (one task) to its end, as a median,

- ``empty``: beside nothing;
- ``tasks``: beside 100 runs whose 20 mapped tasks each wait for an event of their own;
- ``chunks``: beside 100 runs with one parked chunk, whose 20 items wait for an event each;
- ``one_chunk``: beside one run with one parked chunk, in which as many items wait.

Also reported: the share of one processor that the scheduler takes meanwhile, and the slots that are
occupied. One run of each kind is real; the others are copies of its rows, which is all that the scheduler
sees of a parked task. ``--dagruns`` is Airflow's ``[scheduler] max_dagruns_per_loop_to_schedule``.
"""

from __future__ import annotations

import configparser
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import Connection, create_engine, text

from airflow_allma.common.wait_keys import wait_key
from benchmarks.airflow_runs import DAG_SECONDS
from benchmarks.measure import Measure
from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader

PARKED = "awaiting_input"
TRIVIAL: dict[str, Any] = {
    "id": "trivial",
    "startStepInstanceId": "only",
    "steps": {"only": {"stepType": "NO_OP"}},
}
SETTLE_SECONDS = 10.0
TABLES = {
    "dag_run": "id",
    "task_instance": "id",
    "task_map": "",
    "xcom": "dag_run_id",
}


def waiting_flow(flow_id: str, **airflow: Any) -> dict[str, Any]:
    """Return a flow whose items each wait for an event, a week at most."""
    return {
        "id": flow_id,
        "startStepInstanceId": "fan",
        "steps": {
            "fan": {
                "stepType": "PARALLEL_FORK_MANAGER",
                "itemsPath": "$.initialContextData.items",
                "parallelBranches": [{"branchId": "b", "stepInstanceId": "approval"}],
                "aggregationConfig": {"strategy": "COLLECT_ARRAY"},
            },
            "approval": {
                "stepType": "WAIT_FOR_EXTERNAL_EVENT",
                "correlationKeyTemplate": "{{flowExecutionId}}:{{currentItem}}",
            },
        },
        "airflow": airflow,
    }


def run(runs: int = 100, waits: int = 20, rounds: int = 9, dagruns: int = 20) -> dict[str, Measure]:
    flows = [TRIVIAL, waiting_flow("tasks"), waiting_flow("chunks", maxInMemoryBytes=1, chunkBytes=1 << 30)]
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        for flow in flows:
            (dags / f"{flow['id']}.json").write_text(json.dumps(flow), encoding="utf-8")
        config = {
            "allma": {"offload_location": (root / "store").as_uri()},
            "scheduler": {"max_dagruns_per_loop_to_schedule": str(dagruns)},
            "dag_processor": {"min_file_process_interval": "600"},
        }
        with AirflowInstance(
            root / "airflow", [dags], database="postgresql", parallelism=4, config=config
        ) as instance:
            return _measure(_Waits(instance, waits), runs, rounds)


def _measure(waits: _Waits, runs: int, rounds: int) -> dict[str, Measure]:
    for flow in (TRIVIAL, {"id": "tasks"}, {"id": "chunks"}):
        waits.instance.client.wait_for_dag(flow["id"], timeout=DAG_SECONDS)
    waits.trivial(2)
    empty, empty_cpu = waits.trivial(rounds)
    measures = {"empty": Measure(empty, "s"), "empty_scheduler": Measure(empty_cpu, "CPUs")}
    for name, dag_id, items, copies in (
        ("tasks", "tasks", waits.count, runs - 1),
        ("chunks", "chunks", waits.count, runs - 1),
        ("one_chunk", "chunks", waits.count * runs, 0),
    ):
        run_id, seconds = waits.park(dag_id, items)
        waits.copy(dag_id, run_id, copies)
        time.sleep(SETTLE_SECONDS)
        beside, cpu = waits.trivial(rounds)
        measures[name] = Measure(beside, "s", empty)
        measures[f"{name}_scheduler"] = Measure(cpu, "CPUs", max(empty_cpu, 0.001))
        measures[f"{name}_slots"] = Measure(waits.slots(), "slots")
        measures[f"{name}_parked"] = Measure(waits.parked(), "parked tasks")
        measures[f"{name}_parked_after"] = Measure(seconds, "s")
        waits.remove(dag_id)
        time.sleep(SETTLE_SECONDS)
    measures["empty_again"] = Measure(waits.trivial(rounds)[0], "s", empty)
    return measures


class _Waits:
    """Waits in a running Airflow.

    Args:
        instance: the Airflow.
        count: waits of a run.
    """

    def __init__(self, instance: AirflowInstance, count: int) -> None:
        self.instance = instance
        self.count = count
        config = configparser.RawConfigParser()
        config.read(instance.home / "airflow.cfg", encoding="utf-8")
        self._engine = create_engine(config["database"]["sql_alchemy_conn"].replace("%%", "%"))

    def trivial(self, rounds: int) -> tuple[float, float]:
        """Run the trivial flow; return the median of seconds, and the scheduler's share of a processor."""
        client, dag_id = self.instance.client, str(TRIVIAL["id"])
        schedulers = _schedulers(self.instance)
        began, cpu = time.monotonic(), _cpu(schedulers)
        times = []
        for _ in range(rounds):
            run_id = client.trigger(dag_id, {})
            assert client.wait_for_run(dag_id, run_id, timeout=600) == "success"
            made = client.run(dag_id, run_id)
            queued, ended = (datetime.fromisoformat(made[key]) for key in ("queued_at", "end_date"))
            times.append((ended - queued).total_seconds())
        return statistics.median(times), (_cpu(schedulers) - cpu) / (time.monotonic() - began)

    def park(self, dag_id: str, items: int) -> tuple[str, float]:
        """Start a run whose items wait; return its id, and after how many seconds all of it is parked."""
        began = time.monotonic()
        run_id = self.instance.client.trigger(dag_id, {"items": list(range(items))})
        wanted = items if dag_id == "tasks" else 1
        while self.parked() < wanted:
            assert time.monotonic() - began < 900, self.instance.log_tails()
            time.sleep(0.5)
        return run_id, time.monotonic() - began

    def copy(self, dag_id: str, run_id: str, copies: int) -> None:
        """Copy the rows of a run."""
        with self._engine.begin() as connection:
            for table, own_id in TABLES.items():
                _copy_rows(connection, table, own_id, {"dag": dag_id, "run": run_id, "copies": copies})
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))

    def remove(self, dag_id: str) -> None:
        """Delete all runs of a Dag."""
        with self._engine.begin() as connection:
            for table in reversed(TABLES):
                connection.execute(text(f"delete from {table} where dag_id = :dag"), {"dag": dag_id})  # noqa: S608 - our own table names

    def parked(self) -> int:
        """Return how many tasks are parked."""
        return self._count("select count(*) from task_instance where state = :state", {"state": PARKED})

    def slots(self) -> int:
        """Return how many slots of pools and executor are occupied."""
        pools = self.instance.client.call("GET", "pools")["pools"]
        in_pools = sum(int(pool["occupied_slots"]) for pool in pools)
        running = "select count(*) from task_instance where state in ('queued', 'running')"
        return in_pools + self._count(running, {})

    def _count(self, query: str, values: Mapping[str, Any]) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(query), dict(values)).scalar_one())


def _copy_rows(connection: Connection, table: str, own_id: str, values: Mapping[str, Any]) -> None:
    columns = connection.execute(
        text("select column_name from information_schema.columns where table_name = :name"), {"name": table}
    ).scalars()
    copied = {column: f"one.{column}" for column in columns}
    copied["run_id"] = "one.run_id || '-' || n"
    if table == "dag_run":
        del copied["id"]
    elif table == "task_instance":
        copied["id"] = "gen_random_uuid()"
    elif own_id:
        copied[own_id] = "(select id from dag_run where dag_id = :dag and run_id = one.run_id || '-' || n)"
        # Two tasks that wait for one key would be woken.
        copied["key"] = (
            f"case when one.key like '{wait_key('')}%' then '{wait_key('')}' || md5(one.key || n) "
            "else one.key end"
        )
    names = ", ".join(copied)
    selected = ", ".join(copied.values())
    connection.execute(
        text(
            f"insert into {table} ({names}) select {selected} from {table} one, "  # noqa: S608 - names of columns
            "generate_series(1, cast(:copies as integer)) n where one.dag_id = :dag and one.run_id = :run"
        ),
        dict(values),
    )


def _schedulers(instance: AirflowInstance) -> list[psutil.Process]:
    """Return the scheduler's process and those that it has started."""
    home = str(instance.home)
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = process.info["cmdline"] or []
        if "scheduler" in command and (process.info["environ"] or {}).get("AIRFLOW_HOME") == home:
            found.append(process)
    return found


def _cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        if process.is_running():
            times = process.cpu_times()
            total += times.user + times.system
    return total
