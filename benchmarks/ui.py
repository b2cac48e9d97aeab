"""Pages over the items of a fork: a manifest of 1,000,000 lines of which 2,000 fail, on local files.

The product's own writer makes the results. Then a process of its own, as the API server is one, asks for the
first page of items, the first page and page 39 of the failures, a page around an index, labels that contain
``98765``, one item, and the counts. The reference of each is a plain scan: all results read as bytes with 16
threads, looking for a text. ``cold_`` is the time with nothing kept from before, the others with what the
process keeps. ``slow_`` means that each read of the store takes ``--delay-ms`` longer, the scan's too.

``memory`` is how much the process grows from after the first page until it has walked through 200 pages,
searched, and streamed a download of everything; the reference is the size of the results. ``memory_again`` is
how much it grows when it does the same once more.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.engine import compile_flow
from airflow_allma.flow import parse_flow
from airflow_allma.inspection import (
    ChunkState,
    ForkView,
    ItemQuery,
    download,
    fork_summary,
    item_detail,
    item_page,
)
from airflow_allma.inspection.object_cache import ObjectCache
from airflow_allma.storage import LocalStore, ObjectInfo, Pointer
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import BLOCK_BYTES
from benchmarks.chunk_work import BUCKET, COMPOSE, ChunkWorker, folder_of, fork_flow, plan, user
from benchmarks.measure import Measure, seconds

KEY = "users.jsonl"
RUN = OffloadLocation(BUCKET).below("bench", "bench-run")
CHUNK_BYTES, MAX_CHUNKS = 1 << 20, 200
THREADS = 16
FLOW = fork_flow({**COMPOSE, "outputValidation": {"requiredFields": ["$.region"]}}, itemLabelPath="$.userId")


def run(items: int = 1_000_000, failed: int = 2_000, delay_ms: int = 15) -> dict[str, Measure]:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        started = time.perf_counter()
        counts = _write(Path(folder), items, items // max(failed, 1))
        assert sum(count for count, _ in counts) == items
        written = time.perf_counter() - started
        receive, send = multiprocessing.Pipe(duplex=False)
        reader = multiprocessing.get_context("spawn").Process(
            target=_read, args=(folder, counts, delay_ms / 1000, send)
        )
        reader.start()
        # Closed here, so that a reader that fails ends the wait.
        send.close()
        measures = {name: Measure(*values) for name, values in receive.recv().items()}
        reader.join()
    for name, measure in measures.items():
        print(f"{name:24} {measure.as_dict()}")
    return {
        **measures,
        "items": Measure(items, "items"),
        "failed": Measure(sum(count for _, count in counts), "items"),
        "chunks": Measure(len(counts), "chunks"),
        "written": Measure(written, "s"),
    }


def _write(root: Path, items: int, step: int) -> list[tuple[int, int]]:
    """Write the manifest and run its chunks; return items and failures of each."""
    file = root / BUCKET / KEY
    file.parent.mkdir(parents=True)
    encode = msgspec.json.Encoder().encode
    with file.open("wb", buffering=1 << 20) as out:
        for number in range(items):
            one = user(number)
            if number % step == step // 2:
                # What the step requires is missing.
                del one["region"]
            out.write(encode(one) + b"\n")
    store = LocalStore(root)
    worker = ChunkWorker(store, FLOW, may_fail=True)
    counts = []
    for chunk in plan(store, KEY, MAX_CHUNKS, CHUNK_BYTES):
        count = worker.run(chunk, folder_of(chunk.number))
        counts.append((count, worker.failed))
    return counts


class _SlowStore:
    """A store each of whose requests takes longer."""

    def __init__(self, store: LocalStore, delay: float) -> None:
        self._store, self._delay = store, delay
        self.description = store.description

    def head(self, pointer: Pointer) -> ObjectInfo:
        time.sleep(self._delay)
        return self._store.head(pointer)

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        time.sleep(self._delay)
        return self._store.read(pointer, start, end, if_match=if_match)

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        time.sleep(self._delay)
        yield from self._store.stream(pointer, start, end, if_match=if_match, block_bytes=block_bytes)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        time.sleep(self._delay)
        return self._store.list(bucket, prefix, limit)


def _read(folder: str, counts: list[tuple[int, int]], delay: float, send: Connection) -> None:
    store = LocalStore(folder)
    fork = compile_flow(parse_flow(FLOW)).steps["fork"].fork
    chunks = tuple(
        ChunkSpec(one.number, f"bytes {one.range.start}-{one.range.end}", manifest=one)
        for one in plan(store, KEY, MAX_CHUNKS, CHUNK_BYTES)
    )
    states = {
        number: ChunkState(
            "success", {"items": items, "failed": failed, "first": None}, "1", number, 1, 0.0, 1.0
        )
        for number, (items, failed) in enumerate(counts)
    }
    view = ForkView(
        "fork", ChunkPlan(chunks, None, "token", 64), store, RUN, states, branches=("each",), fork=fork
    )
    item_page(view, ItemQuery())
    before = _resident()
    report: dict[str, tuple[Any, ...]] = _times("", view)
    slow: Any = _SlowStore(store, delay)
    report |= _times("slow_", replace(view, store=slow, cache=ObjectCache()))
    size = sum(info.size for info in store.list(BUCKET, "bench/")) / 1e6
    _walk(view)
    started = time.perf_counter()
    streamed = sum(map(len, download(view)))
    report["download"] = (time.perf_counter() - started, "s")
    report["downloaded"] = (streamed / 1e6, "MB")
    after = _resident()
    report["memory"] = (after - before, "MB", size)
    _walk(view)
    sum(map(len, download(view)))
    report["memory_again"] = (_resident() - after, "MB", size)
    send.send(report)


def _walk(view: ForkView) -> None:
    """Ask for many pages, and search."""
    last = sum(state.handed_on["items"] for state in view.chunks.values() if state.handed_on) - 50
    for number in range(200):
        item_page(view, ItemQuery(start=last * number // 199))
    item_page(view, ItemQuery(text="user-98765"))


def _times(prefix: str, view: ForkView) -> dict[str, tuple[Any, ...]]:
    items = sum(state.handed_on["items"] for state in view.chunks.values() if state.handed_on)
    page_39 = 38 * 50
    asks: dict[str, Callable[[ForkView], Any]] = {
        "first_page": lambda view: item_page(view, ItemQuery()),
        "first_failures": lambda view: item_page(view, ItemQuery(show="failed")),
        "failures_page_39": lambda view: item_page(view, ItemQuery(show="failed", start=page_39)),
        "go_to_index": lambda view: item_page(view, ItemQuery(start=items * 987 // 1000)),
        "label_search": lambda view: item_page(view, ItemQuery(label="98765")),
        "one_item": lambda view: item_detail(view, items * 4711 // 1_000_000),
        "counts": lambda view: fork_summary(view, 2.0),
    }
    scan = seconds(lambda: _scan(view), rounds=3) * 1000
    report: dict[str, tuple[Any, ...]] = {f"{prefix}scan": (scan, "ms")}
    for name, ask in asks.items():
        cold = seconds(lambda ask=ask: ask(replace(view, cache=ObjectCache())), rounds=3) * 1000  # type: ignore[misc]
        warm = seconds(lambda ask=ask: ask(view), rounds=7) * 1000  # type: ignore[misc]
        report[f"{prefix}{name}"] = (warm, "ms", scan)
        report[f"{prefix}cold_{name}"] = (cold, "ms", scan)
    return report


def _scan(view: ForkView) -> int:
    """Look for a text in all results, as fast as without an index."""
    store = view.store
    pointers = [
        info.pointer for info in store.list(BUCKET, f"{RUN.prefix}/") if "/parts/" in info.pointer.key
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(lambda pointer: store.read(pointer).count(b'"user-98765"'), pointers))


def _resident() -> float:
    """Return the most memory that this process has had, in MB."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))
