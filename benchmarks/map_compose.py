"""A fork over a manifest, run like chunk tasks: read, decode, run a compose step, write result parts.

``one_process`` runs all chunks in one process. Its reference, the floor, is a loop that reads, decodes,
encodes and writes the same lines. ``two_processes`` runs the same chunks in two processes on two cores; its
reference is ``one_process``. Files are local. The start of Python and Airflow is not included.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic

import msgspec

from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, COMPOSE, ChunkWorker, folder_of, fork_flow, plan, write_lines
from benchmarks.measure import Measure, seconds

CHUNKS = 2
ROUNDS = 3
KEY = "users.jsonl"


def run(items: int = 1_000_000) -> dict[str, Measure]:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        file = write_lines(root / BUCKET / KEY, items)
        bytes_per_line = file.stat().st_size / items
        floor = items / seconds(lambda: _floor(file, root / "floor"), rounds=ROUNDS)
        one = items / statistics.median(_elapsed(root, 1) for _ in range(ROUNDS))
        two = items / statistics.median(_elapsed(root, 2) for _ in range(ROUNDS))
    return {
        "one_process": Measure(one, "items/s", floor),
        "two_processes": Measure(two, "items/s", one),
        "items": Measure(items, "items"),
        "line": Measure(bytes_per_line, "bytes"),
    }


def _floor(file: Path, target: Path) -> None:
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    with file.open("rb") as lines, target.open("wb") as out:
        write = out.write
        for line in lines:
            write(encode(decode(line)))
            write(b"\n")


def _elapsed(root: Path, processes: int) -> float:
    """Return the seconds from when all processes are ready until the last one is done."""
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(processes + 1)
    workers = [
        spawn.Process(target=_work, args=(root, ready, number, processes)) for number in range(processes)
    ]
    for process in workers:
        process.start()
    ready.wait()
    start = monotonic()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    return monotonic() - start


def _work(root: Path, ready: Barrier, number: int, processes: int) -> None:
    store = LocalStore(root)
    worker = ChunkWorker(store, fork_flow(COMPOSE))
    chunks = plan(store, KEY, CHUNKS)
    ready.wait()
    for chunk in chunks[number::processes]:
        worker.run(chunk, folder_of(chunk.number))
