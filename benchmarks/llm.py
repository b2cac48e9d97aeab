"""A fork in one chunk whose branch asks a language model that answers after 50 ms, 64 calls at a time.

``time`` is the time from the first byte of the manifest to the last result on disk, in one process; its
reference is the ideal time, with 64 calls in flight at every moment and no other work. ``loop`` is a bare
loop of 64 coroutines that send the same requests with the same HTTP library, as the lower limit for any
engine. ``processor_time`` is what a call costs this process, its reference what it costs the bare loop, in
rounds that alternate: what other processes do hardly changes its ratio. ``memory_end`` is what the process
uses at the end of a round, its reference what it used after a quarter of the calls. ``most_in_flight`` is the
highest number of calls that the server counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import msgspec

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http import session_settings
from airflow_allma.engine.secrets import Secrets
from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow, plan
from benchmarks.measure import Measure
from demo.model_servers import Behaviour, models_process
from demo.servers import LocalServer

CONCURRENCY = 64
SECONDS = 0.05
ROUNDS = 3
KEY = "texts.jsonl"
WARM_UP, WARM_UP_ITEMS = "warm-up.jsonl", 500
MODEL = "fake"
API_KEY = "sk-benchmark"
ANSWER = '{"category": "billing", "urgent": false}'
STEP: dict[str, Any] = {
    "stepType": "LLM_INVOCATION",
    "llmProvider": "OPENAI",
    "modelId": MODEL,
    "directPrompt": "Classify: {{currentItem.text}}",
    "connection": "models",
    "customConfig": {"jsonOutputMode": True},
}


def run(items: int = 10_000) -> dict[str, Measure]:
    ideal = items / CONCURRENCY * SECONDS
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        write_texts(root / BUCKET / KEY, items)
        with models_process(root, {MODEL: Behaviour(latency=SECONDS, answer=ANSWER)}, keep=1) as server:
            write_texts(root / BUCKET / WARM_UP, WARM_UP_ITEMS)
            # Imports take a second, and Python makes code faster that has run.
            _round(root, server, WARM_UP_ITEMS, WARM_UP)
            body = _last_body(server.url)
            rounds, bare = [], []
            for _ in range(ROUNDS):
                rounds.append(_round(root, server, items))
                bare.append(_bare_round(server.url, body, items))
    biggest = max(rounds, key=lambda one: one.memory_end)
    return {
        "time": Measure(statistics.median(one.seconds for one in rounds), "s", ideal),
        "loop": Measure(statistics.median(one.seconds for one in bare), "s", ideal),
        "processor_time": Measure(
            min(one.processor_seconds for one in rounds) / items * 1e3,
            "ms/call",
            min(one.processor_seconds for one in bare) / items * 1e3,
        ),
        "memory_end": Measure(biggest.memory_end, "MiB", biggest.memory_quarter),
        "most_in_flight": Measure(max(one.max_in_flight for one in rounds), "calls", CONCURRENCY),
        "items": Measure(items, "items"),
    }


@dataclass(frozen=True)
class Round:
    """Measurements of one round; times in seconds, memory in MiB."""

    seconds: float
    processor_seconds: float
    max_in_flight: int = 0
    memory_quarter: float = 0.0
    memory_end: float = 0.0


class OneConnection:
    """A source of secrets that has one connection, to a server of models."""

    def __init__(self, url: str) -> None:
        self._connection = ConnectionSecret("models", kind="http", host=f"{url}/v1", password=API_KEY)

    def connection(self, conn_id: str) -> ConnectionSecret:
        assert conn_id == self._connection.id
        return self._connection

    def variable(self, name: str) -> str:
        raise KeyError(name)

    def hide(self, values: Iterable[str]) -> None:
        """Have nothing to hide: a benchmark has no log."""


def write_texts(file: Path, items: int) -> None:
    """Write a manifest of short texts, each different."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb", buffering=1 << 20) as out:
        for number in range(items):
            text = f"The invoice of order {number} shows an amount that I did not expect."
            out.write(msgspec.json.encode({"id": f"t-{number:06d}", "text": text}) + b"\n")


def model_worker(root: Path, url: str, **services: Any) -> ChunkWorker:
    """Return a worker whose branch asks the model of a server."""
    flow = fork_flow(STEP)
    secrets = Secrets(OneConnection(url))
    return ChunkWorker(LocalStore(root), flow, concurrency=CONCURRENCY, secrets=secrets, **services)


def _round(root: Path, server: LocalServer, items: int, key: str = KEY) -> Round:
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    clear(server.url)
    worker = model_worker(root, server.url)
    gc.collect()
    with _memory_after(server.url, items // 4) as quarter:
        started, processor = perf_counter(), process_time()
        (chunk,) = plan(LocalStore(root), key, 1)
        done = worker.run(chunk, folder_of(0))
        processor = process_time() - processor
        elapsed = perf_counter() - started
        end = _memory()
    counts = stats(server.url)
    assert (done, counts["statuses"]) == (items, {"200": items}), (done, counts)
    return Round(elapsed, processor, counts["max_in_flight"], quarter[0] if quarter else end, end)


def _bare_round(url: str, body: bytes, items: int) -> Round:
    gc.collect()
    started, processor = perf_counter(), process_time()
    asyncio.run(_bare_loop(url, body, items))
    return Round(perf_counter() - started, process_time() - processor)


async def _bare_loop(url: str, body: bytes, items: int) -> None:
    numbers = iter(range(items))
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(**session_settings()) as session:

        async def work() -> None:
            for _ in numbers:
                async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as response:
                    answer = json.loads(await response.read())
                    json.loads(answer["choices"][0]["message"]["content"])

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


@contextmanager
def _memory_after(url: str, calls: int) -> Iterator[list[float]]:
    """Note the process's memory when a server has answered some calls."""
    found: list[float] = []
    ended = Event()

    def watch() -> None:
        while not ended.wait(0.1):
            if stats(url)["calls"] >= calls:
                found.append(_memory())
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _memory() -> float:
    """Return the memory that the process uses, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def stats(url: str) -> dict[str, Any]:
    """Return a server's counts."""
    with urlopen(f"{url}/stats", timeout=30) as response:  # noqa: S310 - our own server
        counts: dict[str, Any] = json.loads(response.read())
    return counts


def clear(url: str) -> None:
    """Make a server forget its requests."""
    with urlopen(Request(f"{url}/requests", method="DELETE"), timeout=30):  # noqa: S310 - our own server
        pass


def _last_body(url: str) -> bytes:
    """Return the body of the last request that a server got."""
    with urlopen(f"{url}/requests", timeout=30) as response:  # noqa: S310 - our own server
        return msgspec.json.encode(json.loads(response.read())[-1]["body"])
