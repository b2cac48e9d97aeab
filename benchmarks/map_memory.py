"""Peak memory of a fork's processes over manifests of 10,000, 1,000,000 and 10,000,000 short lines.

``worker_N`` is the peak of a process that runs the chunks of a manifest of N lines one after the other, with
the default chunk size. ``aggregate_N`` is the peak of the process that then joins their results into a JSON
Lines object. Each runs as a separate process that has imported Airflow, like a task. The reference is the
peak with 10,000 lines. ``seconds_N`` is the duration of the measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.chunk_results import ChunkResults
from airflow_allma.distributed.result_format import read_chunk_summary
from airflow_allma.engine import EngineSettings, Services, join_results
from airflow_allma.storage import LocalStore
from airflow_allma.storage.keys import OffloadLocation
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow, plan
from benchmarks.measure import Measure, peak_memory

SIZES = (10_000, 1_000_000, 10_000_000)
CHUNK_BYTES, MAX_CHUNKS = 1 << 20, 200
WORKERS = 2
KEY = "numbers.jsonl"
FLOW = fork_flow(
    {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/compose-object-from-input",
        "inputMappings": {"n": "$.currentItem.n"},
    }
)


def run(most: int = SIZES[-1]) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for lines in [size for size in SIZES if size <= most]:
        start = perf_counter()
        with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
            _write(Path(folder) / BUCKET / KEY, lines)
            workers = [_start("worker", folder, number) for number in range(WORKERS)]
            results = [_result(worker) for worker in workers]
            joined = _result(_start("aggregate", folder))
            counted = sum(items for _, items in results), joined[1]
            assert counted == (lines, lines), counted
        for name, peak in (("worker", max(peak for peak, _ in results)), ("aggregate", joined[0])):
            least = measures.get(f"{name}_{SIZES[0]}")
            measures[f"{name}_{lines}"] = Measure(peak, "MB", least.value if least else None)
        measures[f"seconds_{lines}"] = Measure(perf_counter() - start, "s")
    return measures


def _write(file: Path, lines: int) -> None:
    file.parent.mkdir(parents=True)
    with file.open("w", buffering=1 << 20) as out:
        out.writelines(f'{{"n":{number}}}\n' for number in range(lines))


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", __name__, *map(str, arguments)], stdout=subprocess.PIPE)


def _result(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Return the peak memory in MB and the number of items that a process reports."""
    out, _ = process.communicate()
    assert process.returncode == 0
    peak, items = json.loads(out.splitlines()[-1])
    return peak, items


def _work(folder: str, number: str) -> int:
    store = LocalStore(folder)
    worker = ChunkWorker(store, FLOW)
    chunks = plan(store, KEY, MAX_CHUNKS, CHUNK_BYTES)
    return sum(worker.run(chunk, folder_of(chunk.number)) for chunk in chunks[int(number) :: WORKERS])


def _aggregate(folder: str) -> int:
    """Join the results like the aggregate task, with the states and XComs that Airflow would have."""
    store = LocalStore(folder)
    worker = ChunkWorker(store, FLOW)
    specs = [ChunkSpec(c.number, "chunk", manifest=c) for c in plan(store, KEY, MAX_CHUNKS, CHUNK_BYTES)]
    services = Services(store=store, settings=EngineSettings(offload_location=OffloadLocation(BUCKET)))
    plan_of_fork = ChunkPlan(tuple(specs), None, "token", 64)
    results = ChunkResults(
        worker.fork, plan_of_fork, _Stored(store), lambda spec: folder_of(spec.number), services
    )
    target = folder_of(0).below("aggregated").pointer("all", ending=".jsonl")
    return join_results(worker.fork, results.read(), services, target, max_inline_bytes=1 << 24).count


class _Stored:
    """The outcomes of chunks, as the aggregate's task would get them from Airflow."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def finished(self) -> dict[int, dict[str, Any]]:
        numbers = range(len(plan(self._store, KEY, MAX_CHUNKS, CHUNK_BYTES)))
        summaries = {number: read_chunk_summary(self._store, folder_of(number)) for number in numbers}
        return {
            number: {"items": summary.items} for number, summary in summaries.items() if summary is not None
        }

    def reason(self, chunk: ChunkSpec) -> str:
        return f"chunk {chunk.number} has no results"


if __name__ == "__main__":
    from airflow_allma.operators.fork_chunk import ForkChunkOperator as _  # noqa: F401 - a task process imports it

    roles: dict[str, Callable[..., int]] = {"worker": _work, "aggregate": _aggregate}
    items = roles[sys.argv[1]](*sys.argv[2:])
    print(json.dumps([peak_memory(), items]))
