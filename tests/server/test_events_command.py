"""`airflow-allma events`, against the plugin's own routes on a loopback port."""

from __future__ import annotations

import json
import socket
import threading
import time
from datetime import timedelta

import pytest

from demo.processes import free_port
from tests.support.cli import run_cli

pytestmark = pytest.mark.airflow

KEY = "order:4711"


@pytest.fixture
def url(tasks, sign_in):
    """An API server with the plugin, and with a sign-in for one user."""
    import uvicorn
    from fastapi import FastAPI, HTTPException

    from airflow_allma.server.web_app import create_app

    token = sign_in("user")["Authorization"].removeprefix("Bearer ")
    root = FastAPI()

    @root.post("/airflow/auth/token")
    def sign(credentials: dict):
        if credentials != {"username": "ci", "password": "planted-secret"}:
            raise HTTPException(401, "Invalid credentials")
        return {"access_token": token}

    root.mount("/airflow/allma", create_app())
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(root, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/airflow/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def signed_in(url, sign_in, monkeypatch):
    monkeypatch.setenv("AIRFLOW_API_URL", url)
    monkeypatch.setenv("AIRFLOW_API_TOKEN", sign_in("user")["Authorization"].removeprefix("Bearer "))


def test_waits_are_listed_as_a_table(tasks, signed_in):
    first = tasks.park(KEY, branch="b", item=3)
    tasks.park("with \x1b[31mcolors", dag_id="flow-b", parked=timedelta(minutes=5))
    ran = run_cli("events", "list")
    assert ran.code == 0
    head, *rows = ran.out.splitlines()
    assert head.split() == ["WAITS", "SINCE", "UNTIL", "KEY", "DAG", "RUN", "STEP"]
    assert rows[0].split()[4:] == [KEY, "flow-a", first.run_id, "s,", "branch", "b,", "item", "3"]
    assert r"with \x1b[31mcolors" in rows[1]
    assert "\x1b" not in ran.out


def test_waits_are_listed_as_json_from_all_pages(tasks, signed_in, monkeypatch):
    monkeypatch.setattr("airflow_allma.cli.events_command._PAGE", 2)
    for number in range(5):
        tasks.park(f"k{number}")
    tasks.park("other", dag_id="flow-b")
    ran = run_cli("events", "list", "--json", "--dag", "flow-a", "--key", "k")
    assert sorted(wait["key"] for wait in json.loads(ran.out)) == ["k0", "k1", "k2", "k3", "k4"]


def test_nothing_waits(signed_in):
    assert run_cli("events", "list").out == "Nothing waits.\n"
    assert run_cli("events", "list", "--json").out == "[]\n"


def test_an_event_is_sent_with_a_payload_from_a_file(tasks, signed_in, tmp_path):
    task = tasks.park(KEY)
    file = tmp_path / "payload.json"
    file.write_text('{"approved": true}')
    ran = run_cli("events", "resume", KEY, "--payload", file)
    assert (ran.code, ran.json["state"], ran.json["runId"]) == (0, "delivered", task.run_id)
    assert task.event(KEY)["payload"] == {"approved": True}


def test_the_reason_of_a_refusal_is_printed(tasks, signed_in):
    tasks.park(KEY)
    assert run_cli("events", "resume", KEY).code == 0
    ran = run_cli("events", "resume", KEY)
    assert ran.code == 1
    assert "409 from " in ran.err
    assert "was delivered before" in ran.err


def test_a_user_signs_in_with_a_password_from_the_environment(url, monkeypatch):
    monkeypatch.setenv("AIRFLOW_API_USER", "ci")
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "planted-secret")
    assert run_cli("events", "list", "--url", url).code == 0
    monkeypatch.setenv("AIRFLOW_API_USER", "other")
    ran = run_cli("events", "list", "--url", url)
    assert (ran.code, "401 from " in ran.err) == (1, True)
    assert "planted-secret" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list"], "Give the address"),
        (["list", "--url", "airflow.example.com", "--token", "x"], "Give the address"),
        (["list", "--url", "http://127.0.0.1:9"], "Set AIRFLOW_API_TOKEN"),
    ],
)
def test_a_call_without_address_or_credentials_says_what_to_set(arguments, reason):
    ran = run_cli("events", *arguments)
    assert ran.code == 2
    assert reason in ran.err


def test_a_payload_that_is_not_an_object_is_wrong_usage(signed_in):
    assert run_cli("events", "resume", KEY, "--payload", "[1]").code == 2


def test_a_server_that_does_not_answer_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ran = run_cli("events", "list", "--url", url, "--token", "planted-secret")
    assert ran.code == 1
    assert f"No answer from {url}" in ran.err
    assert "planted-secret" not in ran.err
