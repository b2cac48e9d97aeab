"""Runs of one chunk whose items wait, on a real Airflow: events are sent to it, and its worker is killed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo.airflow_client import AirflowClient
from tests.airflow.flows import branch, compose, flow, fork

PARKED = "awaiting_input"
CHUNK = "f.chunk"


def waiting_chunk_flow(flow_id: str, **airflow: Any) -> dict[str, Any]:
    """Return a flow whose items wait, in one chunk, and then return what came, after half a second."""
    steps = {
        "f": fork(branch("approval"), failOnBranchError=False),
        "approval": {
            "stepType": "WAIT_FOR_EXTERNAL_EVENT",
            "correlationKeyTemplate": "{{initialContextData.tag}}:{{currentItem.n}}",
            "outputMappings": {"$.answer": "$"},
            "defaultNextStepInstanceId": "last",
        },
        "last": compose(
            {"n": "$.currentItem.n", "v": "$.answer.v"},
            delay={"position": "before", "milliseconds": 500},
        ),
    }
    return flow(flow_id, steps, airflow={"maxInMemoryBytes": 1, "chunkBytes": 1 << 24, **airflow})


@dataclass
class Sender:
    """Sends events to a running Airflow.

    Attributes:
        url: the API server.
        user: who signs in.
        password: the password.
        answers: how often each kind of answer came.
    """

    url: str
    user: str
    password: str
    answers: dict[str, int] = field(default_factory=dict)
    _token: str = ""

    def send(self, key: str, payload: dict[str, Any]) -> str:
        """Send one event until it is accepted, and return what became of it."""
        body = {"correlationValue": key, "payload": payload}
        while True:
            with suppress(httpx.TransportError):
                response = self._post("/allma/resume", body)
                status = response.status_code
                if status == httpx.codes.UNAUTHORIZED:
                    self._token = ""
                    continue
                state = str(response.json()["state"]) if status == httpx.codes.ACCEPTED else str(status)
                self.answers[state] = self.answers.get(state, 0) + 1
                # 409: the answer to the first attempt got lost.
                if response.is_success or status == httpx.codes.CONFLICT:
                    return state
                assert response.is_server_error, f"{key}: {status} {response.text[:300]}"
            time.sleep(0.5)

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        if not self._token:
            credentials = {"username": self.user, "password": self.password}
            signed_in = httpx.post(f"{self.url}/auth/token", json=credentials, timeout=60, trust_env=False)
            self._token = signed_in.json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60, trust_env=False)


@dataclass
class WaitingRun:
    """A run of such a flow.

    Attributes:
        client: a client of the Airflow.
        dag_id: the flow.
        count: how many items wait.
        tag: the beginning of their keys.
    """

    client: AirflowClient
    dag_id: str
    count: int
    tag: str
    run_id: str = ""

    def start(self, timeout: float = 120.0) -> float:
        """Start the run, and return after how many seconds its chunk is parked."""
        began = time.monotonic()
        items = [{"n": n} for n in range(self.count)]
        self.run_id = self.client.trigger(self.dag_id, {"items": items, "tag": self.tag})
        self.wait_for_chunk(PARKED, timeout=timeout)
        return time.monotonic() - began

    def wait_for_chunk(self, *states: str, timeout: float = 120.0) -> Any:
        """Wait until the chunk's task is in one of some states, and return it."""
        return self.client.wait_for_task(self.dag_id, self.run_id, CHUNK, 0, states=states, timeout=timeout)

    def kill_worker(self, timeout: float = 120.0) -> None:
        """Kill the chunk's process the next time that it runs."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            task = self.wait_for_chunk("running", timeout=timeout)
            if task.pid:
                # It can have parked meanwhile.
                with suppress(ProcessLookupError):
                    os.kill(task.pid, signal.SIGKILL)
                    return
        raise AssertionError("the chunk's process was not seen running")

    def send_all(self, send: Callable[[str, dict[str, Any]], Any], seconds: float, seed: int = 0) -> None:
        """Send an event for each item in random order, spread over some seconds."""
        order = list(range(self.count))
        random.Random(seed).shuffle(order)
        began = time.monotonic()
        for position, n in enumerate(order):
            time.sleep(max(0.0, began + seconds * position / self.count - time.monotonic()))
            send(f"{self.tag}:{n}", {"v": f"v{n}"})

    def send_and_kill(self, send: Any, seconds: float, kill_at: list[float]) -> None:
        """Send all events, and kill the chunk's process at some of these seconds."""

        def kill() -> None:
            began = time.monotonic()
            for at in kill_at:
                time.sleep(max(0.0, began + at - time.monotonic()))
                self.kill_worker()

        killer = threading.Thread(target=kill)
        killer.start()
        self.send_all(send, seconds)
        killer.join()

    def finish(self, timeout: float = 180.0) -> list[Any]:
        """Wait for the end of the run and return the results, in item order."""
        state = self.client.wait_for_run(self.dag_id, self.run_id, timeout)
        assert state == "success", self.client.logs(self.dag_id, self.run_id, CHUNK, 0)
        data = self.client.xcom(self.dag_id, self.run_id, "f.aggregate")["aggregatedData"]
        assert isinstance(data, list), data
        return data

    @property
    def expected(self) -> list[Any]:
        """The results of a run that lost nothing."""
        return [{"n": n, "v": f"v{n}"} for n in range(self.count)]
