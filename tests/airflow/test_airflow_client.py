"""The client of Airflow's API that the demo and the tests use."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from demo import airflow_client
from demo.airflow_client import AirflowApiError, AirflowClient

DEADLOCK = {"detail": {"reason": "Database error", "statement": "hidden", "message": "Serious error"}}


@pytest.fixture
def client(monkeypatch):
    """Return a function that makes a client of an API with these ``answers``, and a call counter."""
    monkeypatch.setattr(airflow_client, "POLL_SECONDS", 0.001)

    def make(*answers: tuple[int, object]) -> tuple[AirflowClient, Counter[str]]:
        calls: Counter[str] = Counter()

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/auth/token":
                return httpx.Response(201, json={"access_token": "t"})
            calls[request.url.path] += 1
            status, body = answers[calls[request.url.path] - 1]
            if status == 0:
                raise httpx.ReadTimeout("timed out", request=request)
            return httpx.Response(status, json=body)

        return AirflowClient("http://x", "u", "p", transport=httpx.MockTransport(answer)), calls

    return make


def test_a_call_that_the_database_rolled_back_is_repeated(client):
    called, calls = client((500, DEADLOCK), (500, DEADLOCK), (200, {"state": "failed"}))
    assert called.call("PATCH", "dags/d/dagRuns/r", body={"state": "failed"}) == {"state": "failed"}
    assert calls == {"/api/v2/dags/d/dagRuns/r": 3}


@pytest.mark.parametrize(
    ("status", "body", "made"), [(500, DEADLOCK, 4), (500, {"detail": "a defect"}, 1), (404, DEADLOCK, 1)]
)
def test_a_call_that_fails_repeatedly_or_for_another_reason_is_an_error(client, status, body, made):
    called, calls = client(*[(status, body)] * 9)
    with pytest.raises(AirflowApiError, match=str(status)):
        called.call("GET", "x")
    assert calls == {"/api/v2/x": made}


def test_a_run_is_awaited_although_the_server_is_too_busy_to_answer(client):
    waiting, calls = client((0, None), (200, {"state": "running"}), (0, None), (200, {"state": "success"}))
    assert waiting.wait_for_run("d", "r") == "success"
    assert calls == {"/api/v2/dags/d/dagRuns/r": 4}
