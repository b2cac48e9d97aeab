"""A fork over a manifest whose branch calls an API that answers after 50 ms, with 100 concurrent requests.

``time`` is the time from the first byte of the manifest to the last result on disk, in one process. Its
reference is the ideal time, with 100 requests in flight at every moment and no other work. ``loop`` is a bare
loop of 100 coroutines with the same HTTP library and session settings against the same server, as the lower
limit for any engine; it has the same reference. ``processor_time`` is what a call costs this process, and its
reference what it costs the bare loop, in rounds that alternate: what other processes do hardly changes its
ratio. ``most_in_flight`` is the highest number of concurrent requests that the server counted; its reference
is the configured limit.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from urllib.request import urlopen

import aiohttp

from airflow_allma.engine.http import session_settings
from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow, plan, write_lines
from benchmarks.measure import Measure
from demo.servers import LocalServer

CONCURRENCY = 100
MILLISECONDS = 50
ROUNDS = 3
KEY = "users.jsonl"
CALL = {
    "stepType": "API_CALL",
    "apiHttpMethod": "GET",
    "apiUrlTemplate": {"template": "{{initialContextData.api}}/users/{{currentItem.userId}}"},
}


def run(items: int = 10_000) -> dict[str, Measure]:
    ideal = items / CONCURRENCY * MILLISECONDS / 1000
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        write_lines(root / BUCKET / KEY, items)
        options = ["--port", "{port}", "--milliseconds", str(MILLISECONDS)]
        with LocalServer("slow-api", "benchmarks.slow_api", options, home=root, ready="/counts") as server:
            rounds, bare = [], []
            for _ in range(ROUNDS):
                rounds.append(_round(root, server.url, items))
                bare.append(_bare_round(server.url, items))
    return {
        "time": Measure(statistics.median(one.seconds for one in rounds), "s", ideal),
        "loop": Measure(statistics.median(one.seconds for one in bare), "s", ideal),
        "processor_time": Measure(
            min(one.processor_seconds for one in rounds) / items * 1e6,
            "us/call",
            min(one.processor_seconds for one in bare) / items * 1e6,
        ),
        "most_in_flight": Measure(max(one.max_in_flight for one in rounds), "requests", CONCURRENCY),
        "items": Measure(items, "items"),
    }


@dataclass(frozen=True)
class Round:
    """The seconds and the processor time of one round, and the highest number of concurrent requests."""

    seconds: float
    processor_seconds: float
    max_in_flight: int = 0


def _round(root: Path, url: str, items: int) -> Round:
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    _reset_counts(url)
    store = LocalStore(root)
    worker = ChunkWorker(store, fork_flow(CALL), concurrency=CONCURRENCY, context={"api": url})
    gc.collect()
    started, processor = perf_counter(), process_time()
    (chunk,) = plan(store, KEY, 1)
    assert worker.run(chunk, folder_of(0)) == items
    processor = process_time() - processor
    elapsed = perf_counter() - started
    counts = _reset_counts(url)
    assert counts["calls"] == items, counts
    return Round(elapsed, processor, counts["max_in_flight"])


def _bare_round(url: str, items: int) -> Round:
    gc.collect()
    started, processor = perf_counter(), process_time()
    asyncio.run(_bare_loop(url, items))
    return Round(perf_counter() - started, process_time() - processor)


async def _bare_loop(url: str, items: int) -> None:
    numbers = iter(range(items))
    async with aiohttp.ClientSession(**session_settings()) as session:

        async def work() -> None:
            for number in numbers:
                async with session.get(f"{url}/users/user-{number}") as response:
                    json.loads(await response.read())

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def _reset_counts(url: str) -> dict[str, int]:
    """Return the server's counts of requests and reset them."""
    with urlopen(f"{url}/counts", timeout=10) as response:  # noqa: S310 - our own server
        counts: dict[str, int] = json.loads(response.read())
    return counts
