"""No more calls are in flight than ``maxConcurrency`` allows, over all branches and chunks of a fork."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_allma.dag_factory.plan import segments
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import json_response
from airflow_allma.operators import task_context as run_module
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.operators.xcoms import Key, pull
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import branch, flow, fork

CALL = {
    "stepType": "API_CALL",
    "apiHttpMethod": "GET",
    "apiUrlTemplate": {"template": "https://api.test/{{currentItem}}"},
}


class CountingClient:
    """An HTTP client that counts the calls in flight of all threads, each with its own event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.calls = 0

    async def request(self, method, url, **_) -> HttpResponse:
        with self._lock:
            self._now += 1
            self.calls += 1
            self.most = max(self.most, self._now)
        await asyncio.sleep(0.002)
        with self._lock:
            self._now -= 1
        return json_response({})

    async def close(self) -> None:
        return None


@pytest.fixture
def counted(monkeypatch):
    """An HTTP client that all tasks share."""
    client = CountingClient()

    def build(*arguments: Any) -> Any:
        services = build_services(*arguments)
        services.http = client
        return services

    monkeypatch.setattr(run_module, "build_services", build)
    # Several concurrent chunks for small limits too.
    monkeypatch.setattr(segments, "_ITEMS_PER_PROCESS", 2)
    return client


@pytest.mark.airflow
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 9), st.integers(1, 3), st.tuples(st.integers(2, 40), st.integers(1, 6)), st.booleans())
def test_no_more_calls_are_in_flight_than_allowed_over_all_chunks_and_branches(
    counted, most, branches, size, by_path
):
    items, chunks = size
    counted.most = counted.calls = 0
    starts = [branch("w", f"b{number}") for number in range(branches)]
    limit = "$.initialContextData.most" if by_path else most
    steps = {"f": fork(*starts, maxConcurrency=limit, strategy="NONE"), "w": CALL}
    options = {"maxInMemoryItems": 1, "maxInMemoryBytes": 1, "chunkBytes": 1, "maxChunks": chunks}
    dag_run = FakeDagRun(flow("limits", steps, airflow=options), {"items": list(range(items)), "most": most})
    planned = dag_run.plan("f")
    assert len(planned) == min(items, chunks, most if by_path else chunks)
    task: Any = dag_run.dag.get_task("f.chunk")
    at_a_time = task.partial_kwargs.get("max_active_tis_per_dagrun")
    assert at_a_time == (None if by_path else -(-most // 2))
    assert pull(dag_run.instance("x"), "f.chunks", Key.PLAN)["concurrency"] >= 1

    def run_chunk(number: int) -> None:
        own = copy.copy(dag_run)
        own.xcoms, own.states = dict(dag_run.xcoms), {}
        assert own.run("f.chunk", number, planned[number])["failed"] == 0

    # Like the scheduler: a limited number of chunks at a time, and the next one when one has ended.
    with ThreadPoolExecutor(at_a_time or len(planned)) as pool:
        list(pool.map(run_chunk, range(len(planned))))
    assert counted.calls == items * branches
    assert counted.most <= most


@pytest.mark.scheduler
def test_no_more_calls_reach_a_server_than_allowed_over_concurrent_chunk_processes(
    airflow_client, deploy, shop
):
    def slow(path, _):
        time.sleep(2)
        return 200, {"path": path}

    shop.answer = slow
    options = {"maxInMemoryItems": 1, "maxInMemoryBytes": 1, "chunkBytes": 1, "maxChunks": 4}
    # Two chunks at a time, 35 calls in each.
    fan = fork(branch("w", "b"), branch("w", "c"), maxConcurrency=70)
    deploy(flow("chunk-limit", {"f": fan, "w": ask(shop)}, airflow=options))
    ran = FinishedRun(airflow_client, "chunk-limit", {"items": [{"id": f"p{n}"} for n in range(200)]})
    assert ran.state == "success"
    assert list(ran.states("f.chunk").values()) == ["success"] * 4
    assert sum(shop.calls.values()) == 400
    assert 35 < shop.most_at_once <= 70
