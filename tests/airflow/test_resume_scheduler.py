"""Events for waiting flows on a real Airflow: nothing is lost, nothing fails by being resumed too soon."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.airflow.flows import branch, compose, flow, fork

pytestmark = [pytest.mark.scheduler, pytest.mark.slow]

WAITS = 20
LAST_SECONDS = 10.0


def wait_for(key: str, to: str, **more):
    return {
        "stepType": "WAIT_FOR_EXTERNAL_EVENT",
        "correlationKeyTemplate": key,
        "outputMappings": {"$.answer": "$."},
        "defaultNextStepInstanceId": to,
        **more,
    }


@pytest.fixture
def resume(airflow_client):
    headers = {"Authorization": f"Bearer {airflow_client._sign_in()}"}
    with httpx.Client(base_url=airflow_client.base_url, timeout=60, trust_env=False) as http:

        def send(key, payload):
            body = {"correlationValue": key, "payload": payload}
            return http.post("/allma/resume", json=body, headers=headers)

        yield send


def test_waits_that_are_resumed_at_any_moment_after_they_parked_end_well(airflow_client, deploy, resume):
    steps = {
        "f": fork(branch("w")),
        "w": wait_for("{{initialContextData.prefix}}:{{currentItem}}", "use"),
        "use": compose({"n": "$.answer.n"}),
    }
    deploy(flow("resume-many", steps))
    items = list(range(WAITS))
    run_id = airflow_client.trigger("resume-many", {"items": items, "prefix": "many"})
    parked, sent, deadline = {}, {}, time.monotonic() + 150
    while len(sent) < WAITS and time.monotonic() < deadline:
        for one in airflow_client.task_instances("resume-many", run_id):
            if one.state == "awaiting_input":
                parked.setdefault(one.map_index, time.monotonic())
        for number in parked.keys() - sent.keys():
            if time.monotonic() >= parked[number] + LAST_SECONDS * number / WAITS:
                sent[number] = resume(f"many:{number}", {"n": number}).json().get("state")
        time.sleep(0.1)
    assert sent == dict.fromkeys(items, "delivered")
    assert airflow_client.wait_for_run("resume-many", run_id, 180) == "success"
    instances = airflow_client.task_instances("resume-many", run_id)
    assert {one.try_number for one in instances if one.map_index >= 0} == {1}
    results = [airflow_client.xcom("resume-many", run_id, "f.b.use", number) for number in items]
    assert results == [{"n": number} for number in items]


def test_early_events_second_waits_and_deadlines_each_have_their_own_end(airflow_client, deploy, resume):
    steps = {
        "w": wait_for("{{initialContextData.key}}", "use"),
        "use": compose({"answer": "$.answer"}),
    }
    deploy(flow("resume-one", steps))
    deploy(flow("resume-late", {**steps, "w": {**steps["w"], "maxWaitTimeSeconds": 5}}))

    def start(key, dag_id="resume-one"):
        return airflow_client.trigger(dag_id, {"key": key})

    assert resume("early", {"n": 1}).json()["state"] == "kept"
    runs = {"early": start("early"), "first": start("same")}
    airflow_client.wait_for_task("resume-one", runs["first"], "w", states=["awaiting_input"])
    late = start("late", "resume-late")
    second = start("same")
    assert airflow_client.wait_for_run("resume-one", second, 120) == "failed"
    assert "something else waits for the key 'same' already" in airflow_client.logs("resume-one", second, "w")
    assert resume("same", {"n": 2}).status_code == 202
    assert resume("same", {"n": 3}).status_code == 409
    for name, payload in (("early", {"n": 1}), ("first", {"n": 2})):
        assert airflow_client.wait_for_run("resume-one", runs[name], 120) == "success"
        assert airflow_client.xcom("resume-one", runs[name], "use") == {"answer": payload}
    assert airflow_client.wait_for_run("resume-late", late, 120) == "failed"
    assert "WaitTimeout" in airflow_client.logs("resume-late", late, "w")
    assert resume("late", {}).status_code == 410
    page = httpx.get(f"{airflow_client.base_url}/allma/events", trust_env=False)
    assert page.status_code == 200
