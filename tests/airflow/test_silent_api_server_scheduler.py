"""An API server that does not answer for a while, and killed processes of steps, with default settings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading

import psutil
import pytest

from demo.airflow_instance import AirflowInstance
from demo.postgres import find_postgres
from demo.processes import wait_until
from tests.airflow.finished_run import ask
from tests.airflow.flows import branch, compose, flow, fork
from tests.support.airflow import LOADER, write_atomically

pytestmark = [pytest.mark.scheduler, pytest.mark.slow]

SILENT_SECONDS = 20
COUNT = 24
PATIENT = {"customConfig": {"timeoutMs": 170_000}}


@pytest.fixture(scope="module")
def instance(tmp_path_factory, database_cache, repository):
    """An Airflow that misses tasks after a minute; otherwise they wait for the API server as by default."""
    home = tmp_path_factory.mktemp("silent")
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(repository / "dags" / LOADER, dags / LOADER)
    with AirflowInstance(
        home,
        [dags],
        database="postgresql" if find_postgres() else "sqlite",
        cache=database_cache,
        config={
            "scheduler": {"task_instance_heartbeat_timeout": "60"},
            "workers": {"min_heartbeat_interval": "5"},
        },
    ) as started:
        yield started


@pytest.fixture
def start(instance):
    """Return a function that deploys a flow and starts a run of it."""

    def deploy_and_trigger(name, steps, **payload):
        write_atomically(instance.dags[0] / f"{name}.json", json.dumps(flow(name, steps)))
        instance.client.wait_for_dag(name)
        return instance.client.trigger(name, payload)

    return deploy_and_trigger


def server_of(instance):
    (server,) = (process for process in instance.processes if process.name == "api-server")
    return server


def stop_answering(instance):
    """Stop the API server's processes, let time pass, and continue them."""
    processes = psutil.Process(server_of(instance).pid).children(recursive=True)
    for process in processes:
        process.suspend()
    threading.Event().wait(SILENT_SECONDS)
    for process in processes:
        process.resume()


def refuse_connections(instance):
    """Kill the API server, let time pass, and start it again on the same port."""
    server = server_of(instance)
    server.kill()
    threading.Event().wait(SILENT_SECONDS)
    server.start()
    wait_until(instance.client.health, what="the API server", processes=[server], timeout=120.0)


@pytest.mark.parametrize("fault", [stop_answering, refuse_connections])
def test_no_item_fails_while_the_api_server_is_silent(instance, start, shop, fault):
    busy = threading.Event()

    def answer(path, _):
        number = int(path.rpartition("/")[2])
        if number >= 4:
            busy.set()
        return 200, {"n": number}

    shop.answer = answer
    name = fault.__name__.replace("_", "-")
    steps = {
        "f": fork(branch("look"), dataPath="$.steps_output.last.n", to="end"),
        "look": ask(shop, to="last", **PATIENT),
        "last": compose({"n": "$.steps_output.look.data.n"}),
        "end": compose({"all": "$.steps_output.f.aggregatedData"}),
    }
    run_id = start(name, steps, items=[{"id": number} for number in range(COUNT)])
    assert busy.wait(120)
    fault(instance)
    assert instance.client.wait_for_run(name, run_id, 300.0) == "success", instance.log_tails()
    assert instance.client.xcom(name, run_id, "end") == {"all": list(range(COUNT))}


def test_a_step_that_acts_waits_for_the_api_server_and_acts_once(instance, start, shop):
    busy = threading.Event()

    def answer(path, _):
        if path.endswith("/3"):
            busy.set()
        return 200, {"path": path}

    shop.answer = answer
    steps = {
        "f": fork(branch("order"), to="end"),
        "order": ask(shop, apiHttpMethod="POST", **PATIENT),
        "end": compose(),
    }
    run_id = start("acts-once", steps, items=[{"id": number} for number in range(12)])
    assert busy.wait(120)
    stop_answering(instance)
    assert instance.client.wait_for_run("acts-once", run_id, 300.0) == "success", instance.log_tails()
    assert set(shop.calls.values()) == {1}
    assert len(shop.calls) == 12


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_step_whose_process_is_killed_during_its_request(instance, start, shop, method):
    asked, released = threading.Event(), threading.Event()

    def answer(_path, call):
        if call == 1:
            asked.set()
            released.wait(170)
        return 200, {"call": call}

    shop.answer = answer
    name = f"killed-{method.lower()}"
    steps = {"s": ask(shop, path="/s", to="end", apiHttpMethod=method, **PATIENT), "end": compose()}
    run_id = start(name, steps)
    assert asked.wait(120)
    running = instance.client.wait_for_task(name, run_id, "s", states=["running"])
    os.kill(running.pid, signal.SIGKILL)
    state = instance.client.wait_for_run(name, run_id, 300.0)
    released.set()
    if method == "GET":
        assert state == "success"
        assert instance.client.xcom(name, run_id, "s")["data"] == {"call": 2}
        return
    assert state == "failed"
    assert shop.calls["/s"] == 1
    log = instance.client.logs(name, run_id, "s", try_number=2)
    assert "Step s may have had side effects before try 1 was lost" in log
    assert "[allma] retry_lost_steps" in log
    instance.client.clear(name, run_id, ["s"], downstream=True)
    assert instance.client.wait_for_run(name, run_id, 300.0) == "success"
    assert shop.calls["/s"] == 2
