"""WAIT_FOR_EXTERNAL_EVENT on a real Airflow: main path, mapped branch, loop, time over, one key twice."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from tests.airflow.flows import Json, branch, compose, flow, fork, route
from tests.support.waiting_runs import PARKED, Sender

pytestmark = pytest.mark.scheduler

RUN = "{{initialContextData.tag}}"


def wait(key: str, to: str | None = None, **fields: Any) -> Json:
    return {
        "stepType": "WAIT_FOR_EXTERNAL_EVENT",
        "correlationKeyTemplate": f"{RUN}:{key}",
        **({"defaultNextStepInstanceId": to} if to else {}),
        **fields,
    }


STEPS = {
    "ask": wait("ask", to="f", outputMappings={"$.answer": "$."}),
    "f": fork(branch("before"), to="again"),
    "before": compose({"n": "$.currentItem"}, to="each", outputMappings={"$.n": "$.n"}),
    "each": wait("{{n}}", to="after", outputMappings={"$.got": "$."}),
    "after": compose({"n": "$.n", "got": "$.got.v", "answer": "$.answer.v"}),
    "again": wait("again", to="check", outputMappings={"$.more": "$.more"}),
    "check": route(("$.more == true", "again"), to="late"),
    "late": wait(
        "late",
        maxWaitTimeSeconds=2,
        onError={"fallbackStepInstanceId": "end"},
    ),
    "end": compose({"all": "$.steps_output.f.aggregatedData", "more": "$.more"}),
}


def sender_of(client) -> Sender:
    credentials = client._credentials
    return Sender(client.base_url, credentials["username"], credentials["password"])


def until_parked(client, run: tuple[str, str], task: str, indexes: Iterable[int] = (-1,)) -> None:
    for index in indexes:
        client.wait_for_task(*run, task, index, states=(PARKED,), timeout=90)


def test_runs_wait_for_events_everywhere(airflow_client, deploy):
    deploy(flow("waits", STEPS))
    sender = sender_of(airflow_client)
    run = ("waits", airflow_client.trigger("waits", {"tag": "w1", "items": [5, 6, 7]}))
    # Kept: nothing waits for it yet.
    assert sender.send("w1:6", {"v": "six"}) == "kept"
    until_parked(airflow_client, run, "ask")
    assert sender.send("w1:ask", {"v": "yes"}) == "delivered"
    until_parked(airflow_client, run, "f.b.each", (0, 2))
    for key in (7, 5):
        assert sender.send(f"w1:{key}", {"v": f"got {key}"}) == "delivered"
    assert sender.send("w1:ask", {"v": "twice"}) == "409"
    for more in (True, False):
        until_parked(airflow_client, run, "again")
        while sender.send("w1:again", {"more": more}) != "delivered":
            time.sleep(0.5)
    assert airflow_client.wait_for_run(*run, 120) == "success"
    assert airflow_client.xcom(*run, "end") == {
        "all": [
            {"n": 5, "got": "got 5", "answer": "yes"},
            {"n": 6, "got": "six", "answer": "yes"},
            {"n": 7, "got": "got 7", "answer": "yes"},
        ],
        "more": False,
    }
    assert sender.send("w1:again", {}) == "409"


def test_the_later_of_two_waits_for_one_key_fails(airflow_client, deploy):
    deploy(flow("one_key", {"w": wait("same")}))
    sender = sender_of(airflow_client)
    first = ("one_key", airflow_client.trigger("one_key", {"tag": "w2"}))
    until_parked(airflow_client, first, "w")
    second = ("one_key", airflow_client.trigger("one_key", {"tag": "w2"}))
    assert airflow_client.wait_for_run(*second, 60) == "failed"
    assert "something else waits for the key 'w2:same' already" in airflow_client.logs(*second, "w", -1)
    assert sender.send("w2:same", {"v": 1}) == "delivered"
    assert airflow_client.wait_for_run(*first, 60) == "success"
    with httpx.Client(trust_env=False) as anonymous:
        refused = anonymous.post(f"{sender.url}/allma/resume", json={"correlationValue": "x", "payload": {}})
    assert refused.status_code == httpx.codes.UNAUTHORIZED
