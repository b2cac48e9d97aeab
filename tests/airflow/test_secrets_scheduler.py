"""No planted secret is found anywhere after runs on a real scheduler.

The connections and the Variable are in Airflow's database, as the UI would store them. A flow uses them on
its main path, in mapped tasks and in chunks; steps succeed, fail for good, fail and are retried in the task,
and by Airflow; and the server echoes all that it gets in each error page, in many encodings. At the same
time, a second flow asks models and calls tools of an MCP server in the same ways. Then these places are
searched:

- every column of every table of Airflow's database as text, except the two tables that store the secrets:
  XComs, rendered fields, notes, audit log, serialized Dags, import errors, ...
- every file below AIRFLOW_HOME, unpacked: the logs of all tasks and components, result parts and their marks,
  offloaded values, the flow files
- the loader's index files in the folder for temporary files
- what the API returns: the tasks' logs, the errors in XComs
- what the pages show of both runs: the run, each step, each fork and its items
- the output and the trace of `airflow-allma run` for the same flows (in `tests/cli/test_run_secrets.py`)
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.airflow.finished_run import FinishedRun
from tests.support import planted_models
from tests.support import planted_secrets as planted
from tests.support.echo_server import open_echo_server
from tests.support.planted_models import running_model_servers

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


def pages(ran, payload):
    """Yield what the pages show of a run, its steps, its forks and their items."""

    def page(path, **query):
        found = ran.client.call("GET", f"dags/{ran.dag_id}/{path}", api="allma/api", **query)
        return f"page {ran.dag_id}/{path}", json.dumps(found)

    run = f"runs/{ran.run_id}"
    yield page("flow")
    place, shown = page(run)
    yield place, shown
    for step in {node["step"] for node in json.loads(shown)["picture"]["nodes"] if node.get("step")}:
        yield page(f"{run}/steps/{step}")
    for fork, items in payload.items():
        yield page(f"{run}/forks/{fork}")
        yield page(f"{run}/forks/{fork}/items")
        yield page(f"{run}/forks/{fork}/items", text="planted")
        for index in range(len(items)):
            yield page(f"{run}/forks/{fork}/items/{index}")


def check_main_flow(ran, requests):
    """Check that the run of connections went as planned; return what it shows."""
    assert ran.state == "failed"
    assert ran.states("last") == {-1: "failed"}
    assert ran.try_numbers("retried") == {-1: 2}
    assert Counter(urlsplit(target).path for target, _ in requests) == planted.REQUESTS
    kept = ran.xcom("kept")
    assert "***" in kept["error"]["errorMessage"]
    failures = [
        one for task in ("few.aggregate", "many.aggregate") for one in ran.xcom(task)["aggregatedData"]
    ]
    assert sum("error" in one for one in failures) == 2
    logs = [(f"log of {task}", ran.logs(task)) for task in ("good", "retried", "tolerated", "last")]
    assert all("***" in text for _, text in logs)
    return [*logs, ("XComs", json.dumps([kept, failures])), *pages(ran, planted.PAYLOAD)]


def check_model_flow(ran, servers):
    """Check that the run of models and tools went as planned; return what it shows."""
    assert ran.state == "success"
    assert ran.try_numbers("asked") == {-1: 2}
    assert servers.asked() == planted_models.ASKED
    assert servers.called() == planted_models.CALLED
    items = ran.xcom("many.aggregate")["aggregatedData"]
    assert sum("error" in one for one in items) == planted_models.FAILED_ITEMS
    logs = [(f"log of {task}", ran.logs(task)) for task in ("asked", "invalid", "refused")]
    assert all("***" in text for task, text in logs[1:])
    return [*logs, ("XComs", json.dumps(items)), *pages(ran, planted_models.PAYLOAD)]


def test_no_planted_secret_is_found_after_runs_that_succeed_fail_and_retry(airflow_instance, deploy):
    client = airflow_instance.client
    with open_echo_server() as server, running_model_servers() as servers, ThreadPoolExecutor() as threads:
        connections = planted.connections(server) | servers.connections()
        store_secrets(airflow_instance, connections, planted.VARIABLES)
        deploy(planted_models.model_flow("planted_models"))
        asking = threads.submit(FinishedRun, client, "planted_models", planted_models.PAYLOAD)
        deploy(planted.planted_flow("planted"))
        shown = check_main_flow(FinishedRun(client, "planted", planted.PAYLOAD), server.requests)
        shown += check_model_flow(asking.result(), servers)
        # The search finds what was sent, so it would find it elsewhere too.
        for sent in (str(server.requests), servers.sent()):
            assert planted.hits([("sent", sent)])

    rows = list(database(airflow_instance))
    assert {"table xcom", "table task_instance", "table rendered_task_instance_fields", "table log"} <= {
        place for place, _ in rows
    }
    files = list(planted.files_below(airflow_instance.home, without={"postgres.log", "airflow.cfg"}))
    for dag_id in ("planted", "planted_models"):
        assert any(f"dag_id={dag_id}/" in place for place, _ in files)
    index = list(planted.files_below(Path(tempfile.gettempdir(), f"airflow-allma-{os.geteuid()}")))
    assert planted.hits([*shown, *rows, *files, *index]) == []
