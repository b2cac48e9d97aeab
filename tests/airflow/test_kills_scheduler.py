"""Killed processes of a real scheduler, and runs that are cleared while they run."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from demo.airflow_client import AirflowClient
from tests.airflow.finished_run import ask
from tests.airflow.flows import branch, flow, fork
from tests.airflow.shop import Answer
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.scheduler

COUNT = 60
PATIENT = {"timeoutMs": 170_000}
"""Use a long timeout, so that no call is repeated because the machine is busy."""


HELD = range(20, 24)


@pytest.fixture
def deployed(deploy, moto_endpoint, shop) -> Callable[..., dict[str, Any]]:
    """Deploy a flow that requests 60 lines from the shop, in two chunks; return the payload of its runs."""

    def make(name: str, path: str = "/items/{{currentItem.id}}", **of_fork: Any) -> dict[str, Any]:
        lines = "".join(f'{{"id": "{n:04}"}}\n' for n in range(COUNT)).encode()
        s3 = EndpointClients(moto_endpoint).client("s3", "eu-central-1")
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3.put_object(Bucket=name, Key="m.jsonl", Body=lines)
        options = {"items": "$.initialContextData.p", "dataPath": "$.steps_output.w.data"}
        steps = {
            "f": fork(branch("w"), **options, **of_fork),
            "w": ask(shop, path=path, customConfig=PATIENT),
        }
        airflow = {"chunkBytes": len(lines) // 2, "offloadLocation": f"s3://{name}/allma"}
        deploy(flow(name, steps, airflow=airflow))
        return {"p": {"bucket": name, "key": "m.jsonl"}}

    return make


def aggregated(client: AirflowClient, moto_endpoint: str, dag_id: str, run_id: str) -> list[Any]:
    """Return the fork's aggregated data, also if it is stored in S3."""
    data = client.xcom(dag_id, run_id, "f.aggregate")["aggregatedData"]
    if isinstance(data, list):
        return data
    where = data["_s3_output_pointer"]
    s3 = EndpointClients(moto_endpoint).client("s3", "eu-central-1")
    body = s3.get_object(Bucket=where["bucket"], Key=where["key"])["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


def stored(moto_endpoint: str, bucket: str) -> Counter[int]:
    """Return how many results of each item of the first chunk are stored."""
    s3 = EndpointClients(moto_endpoint).client("s3", "eu-central-1")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    parts = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys if "/000000/parts/" in key]
    return Counter(json.loads(line)["item"] for part in parts for line in part.splitlines())


def test_a_chunk_whose_supervisor_is_killed_runs_again_beside_its_orphan_and_counts_once(
    airflow_client, deployed, moto_endpoint, shop
):
    asked, asked_again, orphan_ended = threading.Event(), threading.Event(), threading.Event()

    def answer(path: str, call: int) -> Answer:
        number = int(path.rpartition("/")[2])
        if number in HELD:
            # The first try waits until the second one has the same items; that one then waits for its end.
            (asked, asked_again)[call - 1].set()
            (asked_again, orphan_ended)[call - 1].wait(170)
        return 200, {"n": number}

    shop.answer = answer
    name = "killed-supervisor"
    payload = deployed(name, onError={"retries": {"count": 1, "intervalSeconds": 1}})
    run_id = airflow_client.trigger(name, payload)
    assert asked.wait(120)
    running = airflow_client.wait_for_task(name, run_id, "f.chunk", 0, states=["running"])
    orphan = psutil.Process(running.pid)
    os.kill(orphan.ppid(), signal.SIGKILL)
    # Airflow notices the missing heartbeats after a while.
    assert asked_again.wait(120)
    psutil.wait_procs([orphan], timeout=60)
    assert not orphan.is_running()
    orphan_ended.set()
    assert airflow_client.wait_for_run(name, run_id, 180.0) == "success"
    kept = stored(moto_endpoint, name)
    assert set(kept) == set(range(31))
    assert {kept[n] for n in HELD} == {2}
    data = aggregated(airflow_client, moto_endpoint, name, run_id)
    assert data == [{"n": n} for n in range(COUNT)]


def test_a_run_that_is_cleared_while_it_runs_is_complete_and_keeps_finished_work(
    airflow_client, deployed, moto_endpoint, shop
):
    asked, cleared = threading.Event(), threading.Event()

    def answer(path: str, call: int) -> Answer:
        number = int(path.rpartition("/")[2])
        if number in HELD and call == 1:
            asked.set()
            cleared.wait(170)
        return 200, {"n": number, "call": call}

    shop.answer = answer
    name = "cleared-while-it-runs"
    run_id = airflow_client.trigger(name, deployed(name))
    assert asked.wait(120)
    airflow_client.wait_for_task(name, run_id, "f.chunk", 1, states=["success"])
    airflow_client.call("POST", f"dags/{name}/dagRuns/{run_id}/clear", body={"dry_run": False})
    assert airflow_client.wait_for_run(name, run_id, 180.0) == "success"
    cleared.set()
    data = aggregated(airflow_client, moto_endpoint, name, run_id)
    assert data == [{"n": n, "call": 2 if n in HELD else 1} for n in range(COUNT)]
    assert stored(moto_endpoint, name) == dict.fromkeys(range(31), 1)


def test_two_concurrent_runs_of_a_flow_do_not_see_each_others_results(
    airflow_client, deployed, moto_endpoint, shop
):
    both = threading.Barrier(2)

    def answer(path: str, _: int) -> Answer:
        _, who, item = path.split("/")
        if item == "0010":
            both.wait(120)
        return 200, {"who": who, "n": int(item)}

    shop.answer = answer
    name = "two-at-once"
    payload = deployed(name, path="/{{initialContextData.who}}/{{currentItem.id}}")
    runs = {who: airflow_client.trigger(name, {**payload, "who": who}) for who in ("one", "two")}
    for who, run_id in runs.items():
        assert airflow_client.wait_for_run(name, run_id, 180.0) == "success"
        data = aggregated(airflow_client, moto_endpoint, name, run_id)
        assert data == [{"who": who, "n": n} for n in range(COUNT)]
    assert not both.broken
    assert set(shop.calls.values()) == {1}
