"""A fork over a manifest whose branch calls AWS: SQS_SEND, and ``system/dynamodb-update-item``, in one chunk.

``sqs`` and ``dynamodb`` are items per second of one process, from the first byte of the manifest to the last
result on disk; the reference is a bare loop of as many threads that make the same calls with boto3, with a
client of the same settings, and parse each line and render its body. Both run in turns against the same
server, a fake in a process of its own that answers at once. Measures ending in ``_cpu`` are processor time
of this process per item.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config

from airflow_allma.common.aws_clients import ClientCache, client_config
from airflow_allma.engine.threads import CallThreads
from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow, plan, write_lines
from benchmarks.measure import Measure
from demo.servers import LocalServer

CONCURRENCY = 64
ROUNDS = 3
KEY = "users.jsonl"
QUEUE = "{{initialContextData.aws}}/000011112222/users"
SEND = {
    "stepType": "SQS_SEND",
    "customConfig": {"queueUrl": QUEUE},
    "inputMappings": {"payload.id": "$.currentItem.userId", "payload.plan": "$.currentItem.account.plan"},
    "literals": {"payload.kind": "user"},
}
UPDATE = {
    "stepType": "DATA_SAVE",
    "moduleIdentifier": "system/dynamodb-update-item",
    "customConfig": {"tableName": "users", "updateExpression": "SET #p = :p"},
    "literals": {"expressionAttributeNames": {"#p": "plan"}},
    "inputMappings": {
        "key.id": "$.currentItem.userId",
        "expressionAttributeValues.:p": "$.currentItem.account.plan",
    },
}


class _Clients:
    """Clients for the fake server, as a connection makes them."""

    connection = "the benchmark's server"

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: Any = boto3.Session()
        self._clients = ClientCache(self.make)

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        return self._clients.get(service, region, retries=retries)

    def make(self, service: str, region: str | None, retries: bool) -> Any:
        return self._session.client(
            service,
            region_name=region or "eu-central-1",
            endpoint_url=self._url,
            aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106 - of the fake
            config=client_config(Config(), service, retries=retries, connections=CONCURRENCY),
        )


def run(items: int = 10_000) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        write_lines(root / BUCKET / KEY, items)
        with LocalServer(
            "fast-aws", "benchmarks.fast_aws", ["--port", "{port}"], home=root, ready="/"
        ) as server:
            for name, step, call in (("sqs", SEND, _send), ("dynamodb", UPDATE, _update)):
                engine, bare = [], []
                for _ in range(ROUNDS):
                    engine.append(_timed(server.url, items, partial(_chunk, root, server.url, step, items)))
                    bare.append(_timed(server.url, items, partial(_bare, root, server.url, call)))
                wall = [statistics.median(rates) for rates in zip(*engine, strict=True)]
                bare_wall = [statistics.median(rates) for rates in zip(*bare, strict=True)]
                measures[name] = Measure(wall[0], "items/s", bare_wall[0])
                measures[f"{name}_cpu"] = Measure(wall[1] * 1e6, "us per item", bare_wall[1] * 1e6)
    measures["items"] = Measure(items, "items")
    return measures


def _timed(url: str, items: int, work: Callable[[], None]) -> tuple[float, float]:
    """Return items per second, and seconds of processor time per item."""
    _reset_calls(url)
    started, cpu = perf_counter(), process_time()
    work()
    elapsed, cpu = perf_counter() - started, process_time() - cpu
    assert (calls := _reset_calls(url)) == items, calls
    return items / elapsed, cpu / items


def _chunk(root: Path, url: str, step: dict[str, Any], items: int) -> None:
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    store = LocalStore(root)
    worker = ChunkWorker(
        store,
        fork_flow(step),
        concurrency=CONCURRENCY,
        context={"aws": url},
        aws=_Clients(url),
        threads=CallThreads(CONCURRENCY),
    )
    (chunk,) = plan(store, KEY, 1)
    assert worker.run(chunk, folder_of(0)) == items


def _bare(root: Path, url: str, call: Callable[[Any, str, dict[str, Any]], None]) -> None:
    service = "sqs" if call is _send else "dynamodb"
    client = _Clients(url).make(service, None, retries=False)
    with (root / BUCKET / KEY).open("rb") as lines, ThreadPoolExecutor(CONCURRENCY) as threads:
        for _ in threads.map(lambda line: call(client, url, json.loads(line)), lines):
            pass


def _send(client: Any, url: str, user: dict[str, Any]) -> None:
    body = json.dumps({"id": user["userId"], "plan": user["account"]["plan"], "kind": "user"})
    client.send_message(QueueUrl=f"{url}/000011112222/users", MessageBody=body)


def _update(client: Any, url: str, user: dict[str, Any]) -> None:
    del url
    client.update_item(
        TableName="users",
        Key={"id": {"S": user["userId"]}},
        UpdateExpression="SET #p = :p",
        ExpressionAttributeNames={"#p": "plan"},
        ExpressionAttributeValues={":p": {"S": user["account"]["plan"]}},
        ReturnValues="UPDATED_NEW",
    )


def _reset_calls(url: str) -> int:
    """Return the server's count of calls and reset it."""
    with urlopen(f"{url}/", timeout=10) as response:  # noqa: S310 - our own server
        return int(json.loads(response.read())["calls"])
