"""Flows among other Dags on a real scheduler: pools, and triggers that are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from demo.airflow_client import AirflowApiError
from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import Answer

pytestmark = pytest.mark.scheduler

PATIENT = {"timeoutMs": 170_000}


class Door:
    """An API that keeps its callers until it is opened, and knows how many wait and how many ever did."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.most = self.waiting = self.passed = 0
        self._lock = threading.Lock()

    def answer(self, path: str, _: int) -> Answer:
        if not path.startswith("/held/"):
            return 200, {"path": path}
        with self._lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.opened.wait(170)
        with self._lock:
            self.waiting -= 1
            self.passed += 1
        return 200, {"path": path}


def wait_until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def test_a_fork_with_its_own_pool_never_uses_more_slots_and_starves_no_other_dag(
    airflow_client, deploy, shop
):
    door = Door()
    shop.answer = door.answer
    pool = {"name": "two-at-a-time", "slots": 2, "description": "", "include_deferred": False}
    airflow_client.call("POST", "pools", body=pool)
    held = ask(shop, path="/held/{{currentItem.id}}", customConfig=PATIENT)
    many = fork(branch("w"), airflow={"pool": pool["name"]})
    deploy(flow("pooled", {"f": many, "w": held}))
    deploy(flow("beside", {"f": fork(branch("w")), "w": ask(shop, path="/free/{{currentItem.id}}")}))
    run_id = airflow_client.trigger("pooled", {"items": [{"id": n} for n in range(7)]})
    wait_until(lambda: door.waiting == 2)
    beside = FinishedRun(airflow_client, "beside", {"items": [{"id": n} for n in range(5)]})
    assert (beside.state, set(beside.states("f.b.w").values())) == ("success", {"success"})
    assert (door.waiting, door.passed) == (2, 0)
    door.opened.set()
    assert airflow_client.wait_for_run("pooled", run_id, 180.0) == "success"
    assert (door.passed, door.most) == (7, 2)


def test_a_trigger_whose_payload_does_not_fit_is_refused_with_the_reason(airflow_client, deploy):
    schema = {
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 1}},
        "required": ["count"],
    }
    deploy(flow("demanding", {"a": compose()}, airflow={"inputSchema": schema}))
    for payload in ({"count": 0}, {"count": "many"}, {}):
        with pytest.raises(AirflowApiError, match="count") as refused:
            airflow_client.trigger("demanding", payload)
        assert refused.value.status == 400
    assert airflow_client.runs("demanding") == []
    assert FinishedRun(airflow_client, "demanding", {"count": 1}).state == "success"
