"""Forks that ask a model whose provider has a rate limit of 100 calls per second, with 429 beyond it.

Once with the rate limit headers of OpenAI, once with ``Retry-After`` alone, each in one process and in two at
the same time. The provider's limit is a token bucket, as most have. ``time`` is the time of all calls; its
reference is the least possible, with 100 calls a second at every moment. ``refused`` is the share of calls
that got a 429, ``failed`` the number of items that failed. No limit is configured: it has to be learned.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter

from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, folder_of, plan
from benchmarks.llm import ANSWER, KEY, MODEL, SECONDS, clear, model_worker, stats, write_texts
from benchmarks.measure import Measure
from demo.model_servers import Behaviour, Limit, models_process

PER_SECOND = 100


def run(items: int = 3_000) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for headers in (True, False):
        for processes in (1, 2):
            name = f"{'headers' if headers else 'retry_after'}_{processes}"
            result = _measure(items, processes, Limit(requests=PER_SECOND, headers=headers))
            # A full bucket serves a second's calls at once.
            least = (items - PER_SECOND) / PER_SECOND
            measures[f"{name}_time"] = Measure(result.seconds, "s", least)
            measures[f"{name}_refused"] = Measure(100 * result.refused / result.calls, "%")
            measures[f"{name}_failed"] = Measure(result.failed, "items")
    return measures


@dataclass(frozen=True)
class Result:
    """What the calls of all processes took."""

    seconds: float
    calls: int
    refused: int
    failed: int


def _measure(items: int, processes: int, limit: Limit) -> Result:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        roots = [root / f"worker{number}" for number in range(processes)]
        for one in roots:
            write_texts(one / BUCKET / KEY, items // processes)
        behaviour = Behaviour(latency=SECONDS, answer=ANSWER, limit=limit)
        with models_process(root, {MODEL: behaviour}) as server:
            clear(server.url)
            failed = sum(_in_processes(roots, server.url))
            counts = stats(server.url)
    refused = counts["statuses"].get("429", 0)
    return Result(counts["last"] - counts["first"], counts["calls"], refused, failed)


def _in_processes(roots: list[Path], url: str) -> Iterator[int]:
    """Yield how many items failed in each process."""
    context = multiprocessing.get_context("spawn")
    queue: Queue[int] = context.Queue()
    barrier = context.Barrier(len(roots))
    workers = [context.Process(target=_work, args=(root, url, barrier, queue)) for root in roots]
    for worker in workers:
        worker.start()
    for worker in workers:
        yield queue.get(timeout=600)
        worker.join()


def _work(root: Path, url: str, barrier: Barrier, queue: Queue[int]) -> None:
    worker = model_worker(root, url, may_fail=True)
    (chunk,) = plan(LocalStore(root), KEY, 1)
    barrier.wait(timeout=60)
    started = perf_counter()
    worker.run(chunk, folder_of(0))
    print(f"{root.name}: {perf_counter() - started:.1f} s, {worker.failed} failed")
    queue.put(worker.failed)
