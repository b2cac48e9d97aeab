"""A fork over a manifest whose branch asks an API that answers after 50 ms, 100 requests at a time.

``time`` is from the first byte of the manifest to the last result on disk, in one process; its reference is
the ideal, in which 100 requests are in flight all the time and nothing else takes any. ``loop`` is a bare
loop of 100 coroutines with the same HTTP library against the same server: what no engine could beat here.
``most_in_flight`` is what the server has counted; its reference is what was allowed.
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
from benchmarks.measuring import Measure
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
        with LocalServer("slow-api", "benchmarks.slow_api", options, home=root, ready="/seen") as server:
            rounds = [_round(root, server.url, items) for _ in range(ROUNDS)]
            bare = statistics.median(asyncio.run(_bare(server.url, items)) for _ in range(ROUNDS))
    return {
        "time": Measure(statistics.median(seconds for seconds, _ in rounds), "s", ideal),
        "loop": Measure(bare, "s", ideal),
        "most_in_flight": Measure(max(most for _, most in rounds), "requests", CONCURRENCY),
        "items": Measure(items, "items"),
    }


def _round(root: Path, url: str, items: int) -> tuple[float, int]:
    """Seconds, and the most requests that the server saw at once."""
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    _seen(url)
    store = LocalStore(root)
    worker = ChunkWorker(store, fork_flow(CALL), concurrency=CONCURRENCY, context={"api": url})
    started = perf_counter()
    (chunk,) = plan(store, KEY, 1)
    assert worker.run(chunk, folder_of(0)) == items
    elapsed = perf_counter() - started
    seen = _seen(url)
    assert seen["calls"] == items, seen
    return elapsed, seen["most"]


async def _bare(url: str, items: int) -> float:
    numbers = iter(range(items))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number in numbers:
                async with session.get(f"{url}/users/user-{number}") as response:
                    json.loads(await response.read())

        started = perf_counter()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return perf_counter() - started


def _seen(url: str) -> dict[str, int]:
    with urlopen(f"{url}/seen", timeout=10) as answer:  # noqa: S310 - a server of our own
        seen: dict[str, int] = json.loads(answer.read())
    return seen
