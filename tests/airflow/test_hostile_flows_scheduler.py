"""Flows with one extreme value each, on a running Airflow: none of them harms the others or a process."""

from __future__ import annotations

import json
import os
import shutil
import time

import psutil
import pytest

from tests.airflow.flows import branch, compose, flow, fork
from tests.support.airflow import parse_again
from tests.support.hostile_flows import hostile_flows

pytestmark = [pytest.mark.scheduler, pytest.mark.slow]

PROBLEMS = "allma_problems.py"
GOOD = 20
STEPS = {"a": compose(to="b"), "b": compose()}
BOUNDED = (
    "hostile-flow-name-nul",
    "hostile-flow-description-escape",
    "hostile-flow-tags-wide",
    "hostile-step-displayName-endless",
    "hostile-flow-airflow-priorityWeight-tera",
)
"""Some of those that run, with values that the scheduler and the API server store too."""


@pytest.fixture
def folder(airflow_instance, repository):
    """A folder of hostile flows in the dags folder, removed at the end; other tests share this Airflow."""
    dags = airflow_instance.dags[0]
    shutil.copy(repository / "dags" / PROBLEMS, dags / PROBLEMS)
    inside = dags / "hostile"
    yield inside
    shutil.rmtree(inside, ignore_errors=True)
    (dags / PROBLEMS).unlink()


def process_ids(instance):
    """Return name -> id of the Airflow process below each reaper."""
    return {
        one.name: [child.pid for child in psutil.Process(one.pid).children()] for one in instance.processes
    }


def wait_for(look, what, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")


def put(folder, flows, files):
    """Write flows and files into a new folder that appears at once."""
    fresh = folder.with_name(".hostile")
    fresh.mkdir()
    for one in flows:
        (fresh / f"{one['id']}.json").write_text(json.dumps(one, indent=1))
    for name, content in files.items():
        (fresh / os.fsdecode(name)).write_text(content)
    fresh.rename(folder)


def dag_ids(client):
    return {dag["dag_id"] for dag in client.dags()}


def shown(client):
    """Return the import error with the hostile flows, once there is one."""
    errors = (one["stack_trace"] for one in client.import_errors() if one["filename"] == PROBLEMS)
    return [text for text in errors if "/hostile/" in text]


def logged(instance, names):
    """Return those file names that are in a problem in the Dag processor's log."""
    logs = (log for log in (instance.home / "logs").rglob("*.log") if "allma_flows" in log.name)
    lines = [line for log in logs for line in log.read_text().splitlines() if "allma_problem" in line]
    # The log is JSON, which escapes backslashes once more.
    return {name for name in names if any(name in line.replace("\\\\", "\\") for line in lines)}


def labels_of_a_run(client, deploy):
    """Return the labels of items, one of which would steer a terminal; the Dag is new."""
    deploy(flow("labels", {"f": fork(branch("b")), "b": compose()}))
    run_id = client.trigger("labels", {"items": [{"id": "\x1b[31mRED\r\n::group::x\u202e"}, {"id": 2}]})
    assert client.wait_for_run("labels", run_id) == "success"
    return {one.label for one in client.task_instances("labels", run_id) if one.task_id == "f.b.b"}


def test_two_hundred_hostile_flows_among_good_ones_are_shown_or_bounded(
    airflow_client, airflow_instance, deploy, folder
):
    good = [flow(f"sound-{number}", STEPS, airflow={"schedule": None}) for number in range(GOOD)]
    hostile = {one["id"]: one for one in hostile_flows()}
    assert len(hostile) >= 200
    before = process_ids(airflow_instance)
    put(
        folder,
        [*hostile.values(), *good],
        {b"not utf-8 \xff\x1b.json": '{"startStepInstanceId": 1, "steps": {}}'},
    )
    parse_again(airflow_instance)

    wait_for(lambda: {one["id"] for one in good} <= dag_ids(airflow_client), "the good Dags")
    (error,) = wait_for(lambda: shown(airflow_client), "the import error")
    assert "\x00" not in error
    missing = hostile.keys() - dag_ids(airflow_client)
    assert 100 < len(missing) < len(hostile)
    assert f"{len(missing) + 1} flow files have errors" in error
    names = {*(f"hostile/{flow_id}.json" for flow_id in missing), "not utf-8 \\udcff\\x1b.json"}
    wait_for(lambda: names <= logged(airflow_instance, names), "a logged problem for each flow without a Dag")

    runs = {dag_id: airflow_client.trigger(dag_id, {}) for dag_id in (*BOUNDED, "sound-0")}
    for dag_id, run_id in runs.items():
        assert airflow_client.wait_for_run(dag_id, run_id) == "success", dag_id
    assert labels_of_a_run(airflow_client, deploy) == {"\\x1b[31mRED\\r\\n::group::x\\u202e", "2"}
    assert process_ids(airflow_instance) == before
