"""Runs on a real Airflow, their duration and the rows that they leave in its database."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from demo.airflow_instance import AirflowInstance, Database
from demo.dag_files import write_loader
from demo.postgres import find_postgres

TASKS_AT_ONCE = 4
RUN_SECONDS = 7200.0
DAG_SECONDS = 120.0
TABLES = {"task_instances": "task_instance", "xcoms": "xcom", "rendered": "rendered_task_instance_fields"}


@dataclass(frozen=True)
class RunFigures:
    """Figures of a successful run: seconds from its start to its end, and its rows in the database."""

    seconds: float
    task_instances: int
    xcoms: int
    rendered: int
    xcom_bytes: int


@contextmanager
def airflow(
    folder: Path,
    flows: Sequence[Mapping[str, Any]],
    sources: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[AirflowInstance]:
    """Run an Airflow with these flows and Dag files, on PostgreSQL if it is installed."""
    dags = folder / "dags"
    dags.mkdir()
    write_loader(dags)
    for flow in flows:
        (dags / f"{flow['id']}.json").write_text(json.dumps(flow), encoding="utf-8")
    for name, source in (sources or {}).items():
        (dags / f"{name}.py").write_text(source, encoding="utf-8")
    with AirflowInstance(
        folder / "airflow",
        [dags],
        database=database(),
        parallelism=TASKS_AT_ONCE,
        # Repeated parsing would take CPU time from the measured run.
        config={"allma": settings, "dag_processor": {"min_file_process_interval": "600"}},
    ) as instance:
        yield instance


def database() -> Database:
    """Return the kind of database that Airflow uses on this machine."""
    return "postgresql" if find_postgres() else "sqlite"


def run_dag(instance: AirflowInstance, dag_id: str, conf: dict[str, Any]) -> RunFigures:
    """Run a Dag, which must succeed, and return its figures."""
    client = instance.client
    client.wait_for_dag(dag_id, timeout=DAG_SECONDS)
    run_id = client.trigger(dag_id, conf)
    state = client.wait_for_run(dag_id, run_id, timeout=RUN_SECONDS)
    assert state == "success", instance.log_tails()
    run = client.run(dag_id, run_id)
    began, ended = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    return RunFigures((ended - began).total_seconds(), **_rows(instance, dag_id, run_id))


def _rows(instance: AirflowInstance, dag_id: str, run_id: str) -> dict[str, int]:
    config = configparser.RawConfigParser()
    config.read(instance.home / "airflow.cfg", encoding="utf-8")
    engine = create_engine(config["database"]["sql_alchemy_conn"].replace("%%", "%"))
    where = "where dag_id = :dag and run_id = :run"
    values = {"dag": dag_id, "run": run_id}
    with engine.connect() as connection:
        rows = {
            name: int(connection.execute(text(f"select count(*) from {table} {where}"), values).scalar_one())  # noqa: S608 - our own table names
            for name, table in TABLES.items()
        }
        size = f"select coalesce(sum(length(cast(value as text))), 0) from xcom {where}"  # noqa: S608
        rows["xcom_bytes"] = int(connection.execute(text(size), values).scalar_one())
    engine.dispose()
    return rows
