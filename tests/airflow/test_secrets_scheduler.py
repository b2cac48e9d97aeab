"""No planted secret is found anywhere after runs on a real scheduler.

The connections and the Variable are in Airflow's database, as the UI would store them. A flow uses them on
its main path, in mapped tasks and in chunks; steps succeed, fail for good, fail and are retried in the task,
and by Airflow; and the server echoes all that it gets in each error page, in many encodings. Then these
places are searched:

- every column of every table of Airflow's database as text, except the two tables that store the secrets:
  XComs, rendered fields, notes, audit log, serialized Dags, import errors, ...
- every file below AIRFLOW_HOME, unpacked: the logs of all tasks and components, result parts and their marks,
  offloaded values, the flow files
- the loader's index files in the folder for temporary files
- what the API returns: the tasks' logs, the errors in XComs
- the output and the trace of `airflow-allma run` for the same flow (in `tests/cli/test_run_secrets.py`)
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.airflow.finished_run import FinishedRun
from tests.support import planted_secrets as planted
from tests.support.echo_server import open_echo_server

pytestmark = pytest.mark.scheduler

STORE = """
import json, sys
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
connections, variables = json.load(sys.stdin)
with create_session() as session:
    for conn_id, fields in connections.items():
        extra = json.dumps(fields.pop("extra"))
        session.add(Connection(conn_id=conn_id, extra=extra, **fields))
    for name, value in variables.items():
        session.add(Variable(key=name, val=value))
"""
SOURCES = {"connection", "variable"}


def store_secrets(instance, connections, variables):
    """Write connections and Variables into the database, without the API's audit log."""
    subprocess.run(
        [sys.executable, "-c", STORE],
        input=json.dumps([connections, variables]),
        env=instance.environment,
        text=True,
        check=True,
        capture_output=True,
    )


def database(instance):
    """Yield each row of all tables but the sources, as text."""
    from sqlalchemy import MetaData, create_engine, select

    config = configparser.ConfigParser(interpolation=None)
    config.read(instance.home / "airflow.cfg")
    engine = create_engine(config["database"]["sql_alchemy_conn"])
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for name, table in tables.tables.items():
            if name not in SOURCES:
                for row in connection.execute(select(table)):
                    columns = (value.hex() if isinstance(value, bytes) else str(value) for value in row)
                    yield f"table {name}", " | ".join(columns)
    engine.dispose()


def test_no_planted_secret_is_found_after_runs_that_succeed_fail_and_retry(airflow_instance, deploy):
    client = airflow_instance.client
    with open_echo_server() as server:
        store_secrets(airflow_instance, planted.connections(server), planted.VARIABLES)
        deploy(planted.planted_flow("planted"))
        ran = FinishedRun(client, "planted", planted.PAYLOAD)
    assert ran.state == "failed"
    assert ran.states("last") == {-1: "failed"}
    assert ran.try_numbers("retried") == {-1: 2}
    assert Counter(urlsplit(target).path for target, _ in server.requests) == planted.REQUESTS
    # The search finds what was sent, so it would find it elsewhere too.
    assert planted.hits([("sent", str(server.requests))])
    kept = ran.xcom("kept")
    assert "***" in kept["error"]["errorMessage"]
    failures = [
        one for task in ("few.aggregate", "many.aggregate") for one in ran.xcom(task)["aggregatedData"]
    ]
    assert sum("error" in one for one in failures) == 2

    logs = [(f"log of {task}", ran.logs(task)) for task in ("good", "retried", "tolerated", "last")]
    assert all("***" in text for _, text in logs)
    xcoms = [("XComs", json.dumps([kept, failures]))]
    rows = list(database(airflow_instance))
    assert {"table xcom", "table task_instance", "table rendered_task_instance_fields", "table log"} <= {
        place for place, _ in rows
    }
    files = list(planted.files_below(airflow_instance.home, without={"postgres.log", "airflow.cfg"}))
    assert any("dag_id=planted" in place for place, _ in files)
    index = list(planted.files_below(Path(tempfile.gettempdir(), f"airflow-allma-{os.geteuid()}")))
    assert planted.hits([*logs, *xcoms, *rows, *files, *index]) == []
