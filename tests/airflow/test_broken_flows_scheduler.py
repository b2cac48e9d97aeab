"""A running Airflow while a flow file is broken, and after it is fixed."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest

from tests.airflow.finished_run import ask
from tests.airflow.flows import compose, flow
from tests.support.airflow import parse_again, write_atomically

pytestmark = pytest.mark.scheduler

PROBLEMS = "allma_problems.py"


@pytest.fixture
def problems_file(airflow_instance, airflow_client, repository):
    """The Dag file that shows broken flows."""
    file = airflow_instance.dags[0] / PROBLEMS
    shutil.copy(repository / "dags" / PROBLEMS, file)
    yield file
    file.unlink()


def wait_for(look, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")


def test_a_broken_flow_is_shown_and_paused_and_continues_when_it_is_fixed(
    airflow_client, airflow_instance, deploy, shop, problems_file
):
    asked, answered = threading.Event(), threading.Event()

    def answer(path, _number):
        # Scheduled runs do not have this payload.
        if path == "/for/me":
            asked.set()
            answered.wait(120)
        return 200, {"answer": 42}

    shop.answer = answer
    steps = {
        "ask": ask(shop, to="after", path="/for/{{who}}"),
        "after": compose({"got": "$.steps_output.ask.data.answer"}),
    }
    sound = flow("breaks", steps, airflow={"schedule": "rate(1 minute)"})
    deploy(flow("stays", {"s": compose()}))
    deploy(sound)
    run_id = airflow_client.trigger("breaks", {"who": "me"})
    assert asked.wait(60)

    file = airflow_instance.dags[0] / "breaks.json"
    broken = {**sound, "steps": {**sound["steps"], "after": compose(to="nowhere")}}
    text = json.dumps(broken, indent=1)
    write_atomically(file, text)
    parse_again(airflow_instance)

    def shown():
        return [one for one in airflow_client.import_errors() if one["filename"] == PROBLEMS]

    (error,) = wait_for(shown, "the import error")
    line = 1 + text.split('"nowhere"')[0].count("\n")
    assert f"{file}:{line}:" in error["stack_trace"]
    assert "$.steps.after.defaultNextStepInstanceId" in error["stack_trace"]
    airflow_client.wait_until_gone("breaks")
    assert "stays" in {dag["dag_id"] for dag in airflow_client.dags()}, "its loader has no error"

    started = {run["dag_run_id"] for run in airflow_client.runs("breaks")}
    answered.set()
    airflow_client.wait_for_task("breaks", run_id, "ask", states=("success",))
    time.sleep(3)
    assert airflow_client.run("breaks", run_id)["state"] == "running", "it waits for its flow"
    (after,) = (t for t in airflow_client.task_instances("breaks", run_id) if t.task_id == "after")
    assert after.state is None
    assert {run["dag_run_id"] for run in airflow_client.runs("breaks")} == started, "no new run is made"

    write_atomically(file, json.dumps({**sound, "airflow": {}}))
    parse_again(airflow_instance)
    airflow_client.wait_for_dag("breaks")
    wait_for(lambda: not shown(), "the import error's end")
    assert airflow_client.wait_for_run("breaks", run_id) == "success"
    assert airflow_client.xcom("breaks", run_id, "after")["got"] == 42
