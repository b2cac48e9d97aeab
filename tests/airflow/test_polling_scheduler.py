"""Polls on a real scheduler: the triggerer makes the calls, also after a restart, and stores no secret."""

from __future__ import annotations

import json
from collections import Counter
from urllib.parse import urlsplit

import pytest

from demo.airflow_client import AirflowApiError
from demo.processes import wait_until
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.polls import poll
from tests.airflow.test_secrets_scheduler import database, store_secrets
from tests.support import planted_secrets as planted
from tests.support.echo_server import open_echo_server

pytestmark = pytest.mark.scheduler

CALL = {
    "connection": "polled_bearer",
    "apiHeadersTemplate": {"X-Token": "t {{var.polled_token}} {{base64 conn.polled_shop.password}}"},
}


def jobs(echo):
    """Make the server one of jobs: ``/seven`` ends at the 7th call, ``/two`` at the 2nd; ``/bad`` breaks."""
    calls = Counter()

    def answer(target, headers):
        name = urlsplit(target).path.lstrip("/")
        calls[name] += 1
        echo.requests.append((target, headers))
        if name == "bad":
            # What an API of its own accord tells about a request that it does not understand.
            return 200, json.dumps({"error": calls[name] > 1 and {"sent": headers}}).encode(), {}
        done = calls[name] >= {"seven": 7, "two": 2}[name]
        return 200, json.dumps({"done": done, "calls": calls[name]}).encode(), {}

    echo.answer = answer
    return calls


def progress(client, run_id):
    try:
        return client.xcom("polls", run_id, "a", -1, "allma_poll") or {}
    except AirflowApiError:
        return {}


@pytest.mark.slow
def test_a_poll_survives_a_restart_of_the_triggerer_and_its_secrets_are_in_no_table(
    airflow_instance, airflow_client, deploy
):
    (triggerer,) = (one for one in airflow_instance.processes if one.name == "triggerer")
    steps = {
        "a": poll("/seven", "f", attempts=7, call=CALL),
        "f": fork(branch("w"), failOnBranchError=False, to="z"),
        "w": poll("/{{currentItem.id}}", "v", call=CALL),
        "v": compose({"calls": "$.steps_output.w.data.calls"}),
        "z": compose({"main": "$.steps_output.a.data", "all": "$.steps_output.f.aggregatedData"}),
    }
    with open_echo_server() as echo:
        calls = jobs(echo)
        shop, bearer = planted.connections(echo).values()
        connections = {"polled_shop": shop, "polled_bearer": bearer}
        store_secrets(airflow_instance, connections, {"polled_token": "planted-token.2"})
        deploy(flow("polls", steps))
        run_id = airflow_client.trigger("polls", {"items": [{"id": "two"}, {"id": "bad"}]})
        wait_until(lambda: progress(airflow_client, run_id).get("calls") == 3, what="three calls", timeout=90)
        deferred = list(database(airflow_instance))
        triggerer.stop()
        triggerer.start()
        assert airflow_client.wait_for_run("polls", run_id, 180) == "success"
        assert calls == {"seven": 7, "two": 2, "bad": 2}
        assert planted.hits([("sent", str(echo.requests))])
    result = airflow_client.xcom("polls", run_id, "z")
    assert result["main"] == {"done": True, "calls": 7}
    good, bad = result["all"]
    assert good == {"calls": 2}
    assert bad["error"]["errorName"] == "PollingFailed"
    assert bad["error"]["errorDetails"]["data"]["error"]["sent"]["Authorization"] == "Bearer ***"
    assert any(place == "table trigger" and "polled_bearer" in row for place, row in deferred)
    files = planted.files_below(airflow_instance.home, without={"postgres.log", "airflow.cfg"})
    logs = [(task, airflow_client.logs("polls", run_id, task)) for task in ("a", "z")]
    assert planted.hits([*deferred, *database(airflow_instance), *files, *logs]) == []
    assert "call 3 of 7" in dict(logs)["a"]
