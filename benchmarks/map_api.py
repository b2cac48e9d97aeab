"""A fork over a manifest whose branch calls an API that answers after 50 ms, with 100 concurrent requests.

``time`` is the time from the first byte of the manifest to the last result on disk, in one process. Its
reference is the ideal time, with 100 requests in flight at every moment and no other work. ``loop`` is a bare
loop of 100 coroutines with the same HTTP library against the same server, as the lower limit for any engine;
it has the same reference. ``most_in_flight`` is the highest number of concurrent requests that the server
counted; its reference is the configured limit.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from urllib.request import urlopen

import aiohttp

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
            rounds = [_round(root, server.url, items) for _ in range(ROUNDS)]
            bare = statistics.median(asyncio.run(_bare_loop(server.url, items)) for _ in range(ROUNDS))
    return {
        "time": Measure(statistics.median(seconds for seconds, _ in rounds), "s", ideal),
        "loop": Measure(bare, "s", ideal),
        "most_in_flight": Measure(max(max_in_flight for _, max_in_flight in rounds), "requests", CONCURRENCY),
        "items": Measure(items, "items"),
    }


def _round(root: Path, url: str, items: int) -> tuple[float, int]:
    """Return the seconds of one round and the highest number of concurrent requests."""
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    _reset_counts(url)
    store = LocalStore(root)
    worker = ChunkWorker(store, fork_flow(CALL), concurrency=CONCURRENCY, context={"api": url})
    started = perf_counter()
    (chunk,) = plan(store, KEY, 1)
    assert worker.run(chunk, folder_of(0)) == items
    elapsed = perf_counter() - started
    counts = _reset_counts(url)
    assert counts["calls"] == items, counts
    return elapsed, counts["max_in_flight"]


async def _bare_loop(url: str, items: int) -> float:
    numbers = iter(range(items))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number in numbers:
                async with session.get(f"{url}/users/user-{number}") as response:
                    json.loads(await response.read())

        started = perf_counter()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return perf_counter() - started


def _reset_counts(url: str) -> dict[str, int]:
    """Return the server's counts of requests and reset them."""
    with urlopen(f"{url}/counts", timeout=10) as response:  # noqa: S310 - our own server
        counts: dict[str, int] = json.loads(response.read())
    return counts
