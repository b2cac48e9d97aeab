"""Scheduled runs of flows, on a real scheduler."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from demo.airflow_client import AirflowClient
from tests.airflow.flows import compose, flow

pytestmark = pytest.mark.scheduler

MINUTE = timedelta(minutes=1)
SEEN = {"all": "$.initialContextData"}
BEAT = flow(
    "beat",
    {"work": compose({"id": "$.flow_variables.flowExecutionId"})},
    airflow={"schedule": "rate(1 minute)"},
)
TWO = flow(
    "two-starts",
    {
        "work": compose(SEEN, to="end"),
        "full": {
            "stepType": "SCHEDULE_START_POINT",
            "scheduleExpression": "cron(* * * * ? *)",
            "timezone": "Europe/Berlin",
            "payloadTemplate": {"mode": "full", "who": "{{flow_variables.who}}"},
        },
        "delta": {
            "stepType": "SCHEDULE_START_POINT",
            "scheduleExpression": "rate(1 minute)",
            "payloadTemplate": {"mode": "delta"},
            "defaultNextStepInstanceId": "pull",
        },
        "pull": compose(SEEN, to="end"),
        "end": {"stepType": "END_FLOW"},
    },
    flowVariables={"who": "ada"},
)
TAKES = {
    "full": {"work": "success", "delta": "skipped", "pull": "skipped", "end": "success"},
    "delta": {"work": "skipped", "delta": "success", "pull": "success", "end": "success"},
}
PAYLOADS = {
    "full": ("work", {"mode": "full", "who": "ada", "triggerSource": "ScheduleTrigger:full"}),
    "delta": ("pull", {"mode": "delta", "triggerSource": "ScheduleTrigger:delta"}),
}


def over(client: AirflowClient, dag_id: str, kind: str, most: float) -> list[dict[str, Any]]:
    """Wait for at least two runs of a kind and their end; return them from the oldest."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        found = [run for run in client.runs(dag_id) if run["run_type"] == kind]
        if len(found) >= 2 and all(run["state"] in {"success", "failed"} for run in found):
            return sorted(found, key=lambda run: datetime.fromisoformat(run["logical_date"]))
        time.sleep(1)
    pytest.fail(f"{dag_id}: no two {kind} runs that are over, only {client.runs(dag_id)}")


def went_as_fired(client: AirflowClient, run_id: str, point: str) -> None:
    """Check which path a run of two-starts took, and with which payload."""
    states = {task.task_id: task.state for task in client.task_instances("two-starts", run_id)}
    assert states == TAKES[point]
    task, payload = PAYLOADS[point]
    assert client.xcom("two-starts", run_id, task)["all"] == payload


def test_a_rate_fires_and_two_start_points_fire_at_once_each_with_its_payload(airflow_client, deploy):
    for one in (BEAT, TWO):
        deploy(one)
    try:
        scheduled = over(airflow_client, "two-starts", "scheduled", 120)
        asked = {
            "dag_id": "two-starts",
            "from_date": "2025-03-01T06:00:00Z",
            "to_date": "2025-03-01T06:00:30Z",
            "dag_run_conf": {},
        }
        airflow_client.call("POST", "backfills", body=asked)
        backfilled = over(airflow_client, "two-starts", "backfill", 120)
        beats = over(airflow_client, "beat", "scheduled", 120)
    finally:
        for one in (BEAT, TWO):
            airflow_client.call("PATCH", f"dags/{one['id']}", body={"is_paused": True})

    for run in scheduled:
        assert run["dag_run_id"].rpartition("__")[2] in PAYLOADS
    fired = {}
    for run in scheduled:
        time_text, _, point = run["dag_run_id"].removeprefix("scheduled__").partition("__")
        fired.setdefault(datetime.fromisoformat(time_text).replace(microsecond=0), {})[point] = run
    whole = [points for points in fired.values() if set(points) == {"full", "delta"}]
    assert whole
    for point, run in whole[0].items():
        assert run["state"] == "success"
        went_as_fired(airflow_client, run["dag_run_id"], point)

    assert [run["state"] for run in backfilled] == ["success", "success"]
    for run, point in zip(backfilled, ("full", "delta"), strict=True):
        went_as_fired(airflow_client, run["dag_run_id"], point)

    first, second = (datetime.fromisoformat(run["logical_date"]) for run in beats[:2])
    assert (second - first) % MINUTE == timedelta()
    assert second > first
    ids = {airflow_client.xcom("beat", run["dag_run_id"], "work")["id"] for run in beats}
    assert len(ids) == len(beats)

    # Long after it fired, a cleared run takes the same path again.
    again = whole[0]["delta"]["dag_run_id"]
    airflow_client.clear("two-starts", again, ["delta", "pull", "end"])
    airflow_client.call("PATCH", "dags/two-starts", body={"is_paused": False})
    try:
        assert airflow_client.wait_for_run("two-starts", again) == "success"
    finally:
        airflow_client.call("PATCH", "dags/two-starts", body={"is_paused": True})
    went_as_fired(airflow_client, again, "delta")
