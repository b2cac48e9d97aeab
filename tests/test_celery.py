"""The example flows on two Celery workers, one of which is killed in the middle of a distributed map."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from airflow_allma.storage.s3 import S3Store
from demo.airflow_client import AirflowClient, TaskInstance
from demo.airflow_instance import AirflowInstance
from demo.data import BUCKET, create_bucket, create_users
from demo.metadata_db import DatabaseCache
from demo.postgres import find_postgres
from demo.processes import ManagedProcess, ServerError, port_open, wait_until
from demo.redis_server import RedisServer, find_redis
from demo.servers import LocalServer, aws_client, aws_connection, aws_server
from demo.shop_api import product, user, user_id
from demo.walkthrough import (
    PRODUCTS,
    USERS,
    check_products,
    check_users,
    finish_walkthrough,
    run_walkthrough,
    start_walkthrough,
)
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import Answer, Shop, open_shop
from tests.support.item_sources import SOURCES, SPLIT, ItemSource
from tests.support.moto import EndpointClients

needs_servers = pytest.mark.skipif(
    find_postgres() is None or find_redis() is None,
    reason="needs postgresql and redis-server, which make test-celery installs",
)
COUNT = 200
ALL_USERS = {user_id(number) for number in range(COUNT)}
CHUNK = f"{USERS.fork}.chunk"
FORMATS = SOURCES[:3]
"""CSV, Parquet and objects."""
CONFIG = {
    # one worker for each of the two chunks that the flow's maxConcurrency lets run concurrently
    "celery": {"worker_concurrency": 1},
    "celery_broker_transport_options": {
        "visibility_timeout": 20,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
    },
    "scheduler": {
        "task_instance_heartbeat_timeout": 15,
        "task_instance_heartbeat_timeout_detection_interval": 2,
    },
    "allma": {"offload_location": f"s3://{BUCKET}/allma", "chunk_bytes": 3200, "result_part_bytes": 200},
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """S3 and DynamoDB, with the demo's users."""
    with aws_server(tmp_path_factory.mktemp("aws")) as server:
        create_bucket(server.url)
        create_users(server.url, COUNT)
        yield server


@pytest.fixture(scope="module")
def airflow(
    aws: LocalServer,
    tmp_path_factory: pytest.TempPathFactory,
    database_cache: DatabaseCache,
    repository: Path,
) -> Iterator[AirflowInstance]:
    """An Airflow with two workers that share nothing but S3."""
    home = tmp_path_factory.mktemp("celery")
    dags = home / "dags"
    shutil.copytree(repository / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    wait_for_answers(dags / "enrich_users.json", "get_profile")
    for source in FORMATS:
        (dags / f"{source.name}.json").write_text(json.dumps(flow_over(source)))
    with AirflowInstance(
        home,
        [dags],
        database="postgresql",
        executor="CeleryExecutor",
        workers=2,
        connections={"aws_default": aws_connection(aws.url)},
        cache=database_cache,
        config=CONFIG,
    ) as instance:
        yield instance


def flow_over(source: ItemSource) -> dict[str, Any]:
    """Return a flow that forks over the items of a format, in several chunks."""
    steps = {
        "f": fork(branch("w"), items="$.initialContextData.p", itemReader=source.reader),
        "w": compose({"n": f"$.{source.at}.n", "v": f"$.{source.at}.v"}),
    }
    return flow(f"items-{source.name}", steps, airflow={**SPLIT, "maxChunks": 2})


def results_of(client: AirflowClient, source: ItemSource, run_id: str) -> list[Any]:
    """Wait until a run of ``flow_over`` has succeeded, in two chunks, and return what it joined."""
    dag_id = f"items-{source.name}"
    assert client.wait_for_run(dag_id, run_id, 240.0) == "success"
    tasks = [task.task_id for task in client.task_instances(dag_id, run_id)]
    assert tasks.count("f.chunk") == 2
    data: list[Any] = client.xcom(dag_id, run_id, "f.aggregate")["aggregatedData"]
    return data


def wait_for_answers(file: Path, step: str) -> None:
    """Use a long timeout: no call may be repeated while its response is held back."""
    flow = json.loads(file.read_text())
    flow["steps"][step]["customConfig"] = {"timeoutMs": 170_000}
    file.write_text(json.dumps(flow))


@pytest.fixture
def shop() -> Iterator[Shop]:
    """The demo's API, whose responses can be held back."""
    with open_shop() as opened:
        opened.answer = answer
        yield opened


def answer(path: str, _call: int) -> Answer:
    """Return the response of the demo's API."""
    url = urlsplit(path)
    _, kind, wanted = url.path.split("/")
    if kind == "products":
        return 200, product(wanted)
    return 200, user(wanted, parse_qs(url.query)["region"][0], COUNT)


def user_of(path: str) -> str:
    """Return the user id of a call."""
    return urlsplit(path).path.rpartition("/")[2]


def kept_users(aws: LocalServer) -> Mapping[str, set[str]]:
    """Return the ids of users with a stored result, by the folder of their chunk."""
    s3 = aws_client("s3", aws.url)
    found: dict[str, set[str]] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"allma/{USERS.dag_id}/"):
        for key in (one["Key"] for one in page.get("Contents", ()) if "/parts/" in one["Key"]):
            lines = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()
            users = {json.loads(line)["output"]["userId"] for line in lines}
            found.setdefault(key.partition("/parts/")[0], set()).update(users)
    return found


def chunks(client: AirflowClient, run_id: str) -> list[TaskInstance]:
    return [task for task in client.task_instances(USERS.dag_id, run_id) if task.task_id == CHUNK]


def check_pages(client: AirflowClient, run_id: str) -> None:
    """Check that the pages show what both workers, and their successor, have stored."""

    def ask(path: str = "", **query: Any) -> Any:
        fork = f"dags/{USERS.dag_id}/runs/{quote(run_id, safe='')}/forks/{USERS.fork}"
        return client.call("GET", fork + path, api="allma/api", **query)

    summary = ask()
    assert (summary["mode"], summary["items"], summary["ended"]) == ("chunks", COUNT, COUNT)
    assert summary["problem"] is None
    pages, start = list[dict[str, Any]](), 0
    while start is not None:
        page = ask("/items", start=start, limit=90)
        pages, start = [*pages, *page["rows"]], page["next"]
    assert [row["index"] for row in pages] == [*range(COUNT)]
    assert {row["status"] for row in pages} == {"ok"}
    item = ask("/items/150")
    assert item["output"]["userId"] == user_id(150)
    assert item["line"]["pointer"].startswith(f"s3://{BUCKET}/")


def worker_of(task: TaskInstance, workers: list[ManagedProcess]) -> str:
    """Return the name of the worker that runs a task now."""
    assert task.pid is not None
    above = {process.pid for process in psutil.Process(task.pid).parents()}
    (name,) = [worker.name for worker in workers if worker.pid in above]
    return name


@needs_servers
@pytest.mark.scheduler
def test_a_list_in_memory_and_files_of_other_formats_run_on_two_workers(
    airflow: AirflowInstance, aws: LocalServer, shop: Shop
):
    client, store, runs = airflow.client, S3Store(EndpointClients(aws.url)), {}
    written = {source: source.write(store, BUCKET, 40, "old", 0) for source in FORMATS}
    for source in FORMATS:
        client.wait_for_dag(f"items-{source.name}", timeout=120)
        runs[source] = client.trigger(f"items-{source.name}", {"p": written[source].pointer})
    check_products(run_walkthrough(client, PRODUCTS, shop.url, aws.url))
    for source, run_id in runs.items():
        expected = [{"n": one["n"], "v": "old"} for one in written[source].inputs]
        assert results_of(client, source, run_id) == expected


@needs_servers
@pytest.mark.scheduler
def test_a_map_whose_worker_is_killed_loses_no_item_and_repeats_none_whose_result_was_stored(
    airflow: AirflowInstance, aws: LocalServer, shop: Shop
):
    held, killed = {user_id(number) for number in range(9, COUNT, 10)}, threading.Event()

    def hold_back(path: str, call: int) -> Answer:
        if user_of(path) in held:
            killed.wait(170)
        return answer(path, call)

    shop.answer = hold_back
    client, running = airflow.client, list[TaskInstance]()
    run_id = start_walkthrough(client, USERS, shop.url)

    def both_in_the_middle() -> bool:
        running[:] = [task for task in chunks(client, run_id) if task.state == "running"]
        return len(running) == 2 and len(kept_users(aws)) == 2

    wait_until(both_in_the_middle, what="A chunk on each worker", timeout=160)
    ran = {worker_of(task, airflow.workers): task.map_index for task in running}
    assert set(ran) == {"worker-0", "worker-1"}
    kept = set[str]().union(*kept_users(aws).values())
    assert 0 < len(kept) < COUNT
    airflow.workers[0].kill()
    killed.set()

    result = finish_walkthrough(client, USERS, run_id, aws.url)
    check_users(client, result, aws.url, COUNT)
    check_pages(client, run_id)
    tries = {task.map_index: task.try_number for task in chunks(client, run_id)}
    assert len(tries) >= 5
    assert tries[ran["worker-0"]] > 1
    calls = {user_of(path): times for path, times in shop.calls.items()}
    assert set(calls) == ALL_USERS
    again = {name for name, times in calls.items() if times > 1}
    assert again
    assert not again & kept

    # Celery delivers the lost task again after Airflow has rescheduled it.
    with airflow.redis.client() as broker:
        wait_until(lambda: not broker.hlen("unacked"), what="The end of the lost task", timeout=120)
    assert {task.map_index: task.try_number for task in chunks(client, run_id)} == tries
    assert {user_of(path): times for path, times in shop.calls.items()} == calls
    assert client.wait_for_run(USERS.dag_id, run_id) == "success"


@needs_servers
def test_redis_requires_a_password_and_leaves_no_files(tmp_path: Path):
    with RedisServer(tmp_path / "log") as server:
        with server.client() as client:
            assert client.set("key", "value")
            folder = Path(client.config_get("dir")["dir"])
        assert folder.is_dir()
        at_once = Retry(NoBackoff(), 0)
        with (
            redis.Redis(port=server.port, retry=at_once) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.get("key")
    assert not port_open(server.port)
    assert not folder.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "CeleryExecutor"},
        {"workers": 2},
        {"executor": "CeleryExecutor", "workers": 2, "database": "sqlite"},
        {"executor": "CeleryExecutor", "workers": 2, "mode": "standalone"},
    ],
)
def test_workers_that_could_not_run_are_refused_before_anything_starts(tmp_path: Path, options: dict):
    with pytest.raises(ServerError, match="worker"):
        AirflowInstance(tmp_path, [tmp_path], **({"database": "postgresql"} | options))
