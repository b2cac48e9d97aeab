"""Flows on a real scheduler: behavior that dag.test() cannot show."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import branch, compose, failing, flow, fork, route
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.scheduler

VALUE = {"v": "$.currentItem.v"}
ITEMS = [{"id": f"p{n}", "v": n} for n in range(4)]


@pytest.fixture
def s3(moto_endpoint):
    return EndpointClients(moto_endpoint).client("s3", "eu-central-1")


def test_conditions_fallbacks_loops_and_inner_forks_act_on_their_own_item_only(airflow_client, deploy):
    steps = {
        "f": fork(
            branch("w", "main"),
            branch("x", "odd", condition="$.currentItem.v == 1"),
            failOnBranchError=False,
            to="z",
        ),
        "w": route(
            ("$.currentItem.v == 0", "bad"),
            ("$.currentItem.v == 1", "loop"),
            ("$.currentItem.v == 2", "inner"),
            to="dead",
        ),
        "bad": failing(onError={"fallbackStepInstanceId": "rescue"}),
        "rescue": compose({"rescued": "$.currentItem.v"}),
        "loop": compose(to="check", literals={"n": 3}, outputMappings={"$.n": "$.n"}),
        "check": route(("$.again == undefined", "mark"), to="done"),
        "mark": compose(to="loop", literals={"again": 1}, outputMappings={"$.again": "$.again"}),
        "done": compose({"n": "$.n"}),
        "inner": fork(branch("y"), items="$.initialContextData.numbers", to="after"),
        "y": compose({"n": "$.currentItem"}),
        "after": compose({"inner": "$.steps_output.inner.aggregatedData"}),
        "dead": failing(),
        "x": compose({"odd": "$.currentItem.id"}),
        "z": compose({"all": "$.steps_output.f.aggregatedData"}),
    }
    deploy(flow("gates", steps))
    ran = FinishedRun(airflow_client, "gates", {"items": ITEMS, "numbers": [7, 8]})
    assert ran.state == "success"
    assert ran.labels("f.main.w") == {0: "p0", 1: "p1", 2: "p2", 3: "p3"}
    assert ran.states("f.main.rescue") == {0: "success", 1: "skipped", 2: "skipped", 3: "skipped"}
    assert ran.states("f.main.done") == {0: "skipped", 1: "success", 2: "skipped", 3: "skipped"}
    assert ran.states("f.main.after") == {0: "skipped", 1: "skipped", 2: "success", 3: "skipped"}
    assert ran.states("f.main.dead") == {0: "skipped", 1: "skipped", 2: "skipped", 3: "failed"}
    assert ran.states("f.odd.x") == {0: "skipped", 1: "success", 2: "skipped", 3: "skipped"}
    data = ran.xcom("z")["all"]
    assert data[:4] == [{"rescued": 0}, {"n": 3}, {"odd": "p1"}, {"inner": [{"n": 7}, {"n": 8}]}]
    assert data[4]["branchId"] == "main"
    assert data[4]["error"]["errorDetails"]["failedStepInstanceId"] == "dead"
    log = ran.logs("f.main.done", 1)
    assert "Step done (DATA_TRANSFORMATION) [item 1, branch main]" in log


def test_a_content_error_is_retried_as_configured(airflow_client, deploy, shop):
    shop.answer = lambda _, number: (200, {"ready": True} if number > 1 else {})
    retries = {"count": 3, "intervalSeconds": 1, "errorEquals": ["ContentBasedRetryableError"]}
    deploy(
        flow(
            "retries",
            {
                "f": fork(branch("w")),
                "w": ask(
                    shop,
                    onError={"retries": retries},
                    outputValidation={"requiredFields": ["$.data.ready"]},
                ),
            },
        )
    )
    ran = FinishedRun(airflow_client, "retries", {"items": ITEMS[:2]})
    assert ran.state == "success"
    assert ran.try_numbers("f.b.w") == {0: 2, 1: 2}
    assert shop.calls == {"/items/p0": 2, "/items/p1": 2}


def test_a_failed_item_that_is_cleared_runs_again_alone_and_fixes_the_run(airflow_client, deploy, shop):
    shop.answer = lambda path, _: (404, {}) if path.endswith("p2") else (200, {"path": path})
    steps = {
        "f": fork(branch("w")),
        "w": ask(shop, to="x"),
        "x": compose({"p": "$.steps_output.w.data.path"}),
    }
    deploy(flow("clear-one", steps))
    ran = FinishedRun(airflow_client, "clear-one", {"items": ITEMS})
    assert ran.state == "failed"
    assert ran.states("f.b.w") == {0: "success", 1: "success", 2: "failed", 3: "success"}
    assert ran.states("f.b.x") == {0: "success", 1: "success", 2: "upstream_failed", 3: "success"}
    shop.answer = lambda path, _: (200, {"path": path})
    airflow_client.clear("clear-one", ran.run_id, ["f.b.w", "f.b.x"], [2])
    airflow_client.clear("clear-one", ran.run_id, ["f.aggregate"])
    ran.wait_again()
    assert ran.state == "success"
    assert ran.xcom("f.aggregate") == {"aggregatedData": [{"p": f"/items/p{n}"} for n in range(4)]}
    assert shop.calls == {"/items/p0": 1, "/items/p1": 1, "/items/p2": 2, "/items/p3": 1}


def test_results_of_an_earlier_try_are_not_counted_after_a_clear(airflow_client, deploy, shop):
    shop.answer = lambda path, _: (200, {"path": path})
    steps = {
        "f": fork(branch("w"), failOnBranchError=False),
        "w": ask(shop, to="x"),
        "x": compose({"p": "$.steps_output.w.data.path"}),
    }
    deploy(flow("stale", steps))
    ran = FinishedRun(airflow_client, "stale", {"items": ITEMS[:2]})
    assert ran.state == "success"
    shop.answer = lambda *_: (404, {})
    airflow_client.clear("stale", ran.run_id, ["f.b.w"], [1], downstream=True)
    ran.wait_again()
    assert ran.states("f.b.x")[1] == "upstream_failed"
    first, second = ran.xcom("f.aggregate")["aggregatedData"]
    assert first == {"p": "/items/p0"}
    assert second["error"]["errorName"] == "PermanentStepError"


def test_a_lost_item_that_may_not_run_again_is_named_and_the_others_count(airflow_client, deploy, shop):
    asked, released = threading.Event(), threading.Event()

    def answer(path, _):
        if path.endswith("p1"):
            asked.set()
            released.wait(60)
        return 200, {"path": path}

    shop.answer = answer
    steps = {
        "f": fork(branch("w"), failOnBranchError=False, dataPath="$.steps_output.w.data.path"),
        "w": ask(shop),
    }
    deploy(flow("killed", steps, airflow={"lostTaskRetries": 0}))
    run_id = airflow_client.trigger("killed", {"items": ITEMS[:3]})
    assert asked.wait(120)
    running = airflow_client.wait_for_task("killed", run_id, "f.b.w", 1, states=["running"])
    os.kill(running.pid, signal.SIGKILL)
    released.set()
    assert airflow_client.wait_for_run("killed", run_id, 180.0) == "success"
    data = airflow_client.xcom("killed", run_id, "f.aggregate")["aggregatedData"]
    assert (data[0], data[2]) == ("/items/p0", "/items/p2")
    assert data[1]["error"]["errorName"] == "BranchResultLost"
    assert "f.b.w[1]" in data[1]["error"]["errorMessage"]


def test_no_more_branch_runs_than_allowed_are_in_flight(airflow_client, deploy, shop):
    def slow(path, _):
        time.sleep(0.5)
        return 200, {"path": path}

    shop.answer = slow
    steps = {
        "f": fork(branch("w", "b"), branch("w", "c"), maxConcurrency=2),
        "w": ask(shop, to="x"),
        "x": ask(shop),
    }
    deploy(flow("limit", steps))
    ran = FinishedRun(airflow_client, "limit", {"items": ITEMS[:3]})
    assert ran.state == "success"
    assert shop.most_at_once <= 2
    assert sum(shop.calls.values()) == 12


def test_a_manifest_runs_as_chunks_that_say_what_failed(airflow_client, deploy, s3, shop):
    s3.create_bucket(Bucket="manifests", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    lines = "".join(json.dumps({"id": f"u{n}", "v": n}) + "\n" for n in range(30))
    s3.put_object(Bucket="manifests", Key="users.jsonl", Body=lines.encode())
    shop.answer = lambda path, _: (404, {}) if path.endswith("u7") else (200, {"path": path})
    steps = {
        "f": fork(branch("w"), items="$.initialContextData.p"),
        "w": ask(shop, to="x"),
        "x": compose({"p": "$.steps_output.w.data.path"}),
    }
    deploy(flow("distributed", steps, airflow={"chunkBytes": 200, "offloadLocation": "s3://manifests/allma"}))
    ran = FinishedRun(airflow_client, "distributed", {"p": {"bucket": "manifests", "key": "users.jsonl"}})
    assert ran.state == "failed"
    failed = [index for index, state in ran.states("f.chunk").items() if state == "failed"]
    assert len(ran.states("f.chunk")) > 3
    assert len(failed) == 1
    assert ran.labels("f.chunk")[failed[0]].endswith(", 1 failed")
    shop.answer = lambda path, _: (200, {"path": path})
    airflow_client.clear("distributed", ran.run_id, ["f.chunk"], failed)
    airflow_client.clear("distributed", ran.run_id, ["f.aggregate"])
    ran.wait_again()
    assert ran.state == "success"
    assert ran.xcom("f.aggregate")["aggregatedData"] == [{"p": f"/items/u{n}"} for n in range(30)]
    assert shop.calls == {f"/items/u{n}": 2 if n == 7 else 1 for n in range(30)}


@pytest.mark.parametrize("again", ["by a retry", "by a clear"])
def test_a_chunk_whose_process_is_killed_continues_after_its_stored_results(
    airflow_client, deploy, s3, shop, again
):
    count, in_flight = 2400, range(1100, 1200)
    asked, released = threading.Event(), threading.Event()

    def answer(path, _):
        number = int(path.rpartition("/")[2])
        if number in in_flight:
            asked.set()
            released.wait(180)
        # About 800 of these fill a part.
        return 200, {"n": number, "text": "x" * 5000}

    shop.answer = answer
    name = "killed-chunk-" + again.rpartition(" ")[2]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    lines = "".join(f'{{"id": "{n:04}"}}\n' for n in range(count))
    s3.put_object(Bucket=name, Key="users.jsonl", Body=lines.encode())
    steps = {
        "f": fork(branch("w"), items="$.initialContextData.p", dataPath="$.steps_output.w.data"),
        # On a busy machine a response may take longer than the default ten seconds: no call must be repeated.
        "w": ask(shop, customConfig={"timeoutMs": 170_000}),
    }
    options = {"chunkBytes": len(lines) // 2, "offloadLocation": f"s3://{name}/allma"}
    if again == "by a clear":
        options["lostTaskRetries"] = 0
    deploy(flow(name, steps, airflow=options))
    run_id = airflow_client.trigger(name, {"p": {"bucket": name, "key": "users.jsonl"}})
    running = airflow_client.wait_for_task(name, run_id, "f.chunk", 0, states=["running"])
    assert asked.wait(180)
    wait_for_stored_items(s3, name, "/000000/parts/")
    os.kill(running.pid, signal.SIGKILL)
    stored = wait_for_stored_items(s3, name, "/000000/parts/")
    released.set()
    state = airflow_client.wait_for_run(name, run_id, 300.0)
    if again == "by a clear":
        assert state == "failed"
        error = json.loads(airflow_client.xcom(name, run_id, "f.aggregate", -1, "allma_error"))
        assert error["errorDetails"]["failedBranchCount"] == 1201 - len(stored)
        assert error["errorDetails"]["branchErrors"][0]["error"]["errorName"] == "BranchResultLost"
        airflow_client.clear(name, run_id, ["f.chunk"], [0])
        airflow_client.clear(name, run_id, ["f.aggregate"])
        state = airflow_client.wait_for_run(name, run_id, 300.0)
    assert state == "success"
    pointer = airflow_client.xcom(name, run_id, "f.aggregate")["aggregatedData"]["_s3_output_pointer"]
    results = s3.get_object(Bucket=pointer["bucket"], Key=pointer["key"])["Body"].read().splitlines()
    assert [json.loads(line)["n"] for line in results] == list(range(count))
    calls = {n: shop.calls[f"/items/{n:04}"] for n in range(count)}
    second_chunk = set(range(1201, count))
    assert {n: calls[n] for n in stored | second_chunk if calls[n] != 1} == {}, airflow_client.logs(
        name, run_id, "f.chunk", 1
    )
    assert {calls[n] for n in set(range(1201)) - stored} <= {1, 2}
    assert max(calls[n] for n in in_flight) == 2


def wait_for_stored_items(s3, bucket, folder, seconds=180.0):
    """Wait for result parts below a folder and return the indexes of their items."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        parts = [s3.get_object(Bucket=bucket, Key=key) for key in keys if folder in key]
        if parts:
            return {json.loads(line)["item"] for part in parts for line in part["Body"].read().splitlines()}
        time.sleep(0.2)
    raise TimeoutError(f"no object was written below {folder} in {keys}")


def test_a_payload_that_is_not_an_object_is_refused_at_the_trigger(airflow_client, deploy):
    from demo.airflow_client import AirflowApiError

    deploy(flow("payload", {"a": compose()}))
    with pytest.raises(AirflowApiError) as refused:
        airflow_client.trigger("payload", [1, 2])
    assert refused.value.status == 422
