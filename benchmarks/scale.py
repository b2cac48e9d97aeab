"""What the tasks of a fork over very many items take: requests, memory and CPU time, without the items.

The planner, the aggregate and one chunk are the real ones, on the package's own S3 store. Behind it is
``endless_s3``, which makes up the manifest, the results and the listings; so there is no wait for a network,
and CPU time for making them up, but not that of boto3 itself, is left out of the measures.

``plan_...`` is the planning of a manifest of ``items`` lines, ``list_...`` that of ``listed`` objects below a
prefix, ``chunk_...`` one chunk of the manifest whose items have labels and run one short step,
``aggregate_...`` the joining of all results. Each runs in a process of its own that has imported Airflow, as
a task has. The reference of a peak of memory is what the process had before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from time import process_time
from typing import Any

import msgspec

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec, plan_fork_chunks
from airflow_allma.distributed.chunk_results import ChunkResults
from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode
from airflow_allma.engine import EngineSettings, Services, join_results
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import ObjectPrefix, Pointer
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.s3 import S3Store
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow
from benchmarks.endless_s3 import MANIFEST, OBJECTS, EndlessS3, lines_in
from benchmarks.measure import Measure, peak_memory

FLOW = fork_flow(
    {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/compose-object-from-input",
        "inputMappings": {"id": "$.currentItem.id", "region": "$.currentItem.region"},
        "literals": {"kind": "customer"},
    }
)
ROLES = ("plan", "list", "chunk", "aggregate")
Figures = dict[str, float]


def run(
    items: int = 10_000_000,
    listed: int = 1_000_000,
    max_chunks: int = 200,
    part_bytes: int = 1 << 20,
    no_aggregate: bool = False,
) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for role in ROLES:
        if role == "aggregate" and no_aggregate:
            continue
        arguments = [role, items, listed, max_chunks, part_bytes]
        command = [sys.executable, "-m", __name__, *map(str, arguments)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures: Figures = json.loads(ended.stdout.splitlines()[-1])
        before = figures.pop("MB_before")
        measures[f"{role}_peak"] = Measure(figures.pop("MB"), "MB", before)
        measures[f"{role}_seconds"] = Measure(figures.pop("seconds"), "s of CPU time")
        measures |= {f"{role}_{name}": Measure(value, name) for name, value in figures.items()}
    return measures


def _measured(role: str, items: int, listed: int, max_chunks: int, part_bytes: int) -> Figures:
    settings = replace(AllmaSettings.without_airflow(), max_chunks=max_chunks, result_part_bytes=part_bytes)
    s3 = EndlessS3(items, listed=listed, part_bytes=part_bytes)
    before, started = peak_memory(), process_time()
    if role == "plan":
        figures = _plan(s3, settings)
    elif role == "list":
        figures = _list(s3, settings)
    elif role == "chunk":
        figures = _chunk(s3, settings)
    else:
        figures = _aggregate(s3, items, settings)
    seconds = process_time() - started - s3.fake_seconds
    kinds = {**dict.fromkeys(("GET", "PUT", "LIST", "HEAD"), 0), **s3.requests}
    written = {f"{name}_bytes": value for name, value in s3.bytes.items()}
    return {"MB": peak_memory(), "MB_before": before, "seconds": seconds, **figures, **kinds, **written}


def _planned(s3: EndlessS3, settings: AllmaSettings, target: Pointer | ObjectPrefix) -> list[ChunkSpec]:
    decision = ForkDecision(ForkMode.CHUNKS, pointer=target)
    reader = ItemReader(format=ItemFormat.OBJECTS) if isinstance(target, ObjectPrefix) else None
    identifiers = ("bench", "bench-run", "fork")
    return plan_fork_chunks(decision, list, _services(s3), settings, identifiers, reader=reader)


def _services(s3: EndlessS3) -> Services:
    return Services(store=S3Store(s3), settings=EngineSettings(offload_location=OffloadLocation(BUCKET)))


def _plan(s3: EndlessS3, settings: AllmaSettings) -> Figures:
    return _figures_of(_planned(s3, settings, Pointer(BUCKET, MANIFEST)))


def _list(s3: EndlessS3, settings: AllmaSettings) -> Figures:
    return _figures_of(_planned(s3, settings, ObjectPrefix(BUCKET, OBJECTS)))


def _figures_of(chunks: list[ChunkSpec]) -> Figures:
    plan = ChunkPlan(tuple(chunks), None, ChunkPlan.token_of(chunks), 64)
    return {"chunks": len(chunks), "XCom_bytes": len(msgspec.json.encode(plan.to_dict()))}


def _chunk(s3: EndlessS3, settings: AllmaSettings) -> Figures:
    chunk = _planned(s3, settings, Pointer(BUCKET, MANIFEST))[0].manifest
    assert chunk is not None
    s3.requests.clear()
    s3.bytes.clear()
    worker = ChunkWorker(S3Store(s3), FLOW, part_bytes=settings.result_part_bytes)
    items = worker.run(chunk, folder_of(0))
    assert items == len(lines_in(chunk.range))
    return {"items": items}


def _aggregate(s3: EndlessS3, items: int, settings: AllmaSettings) -> Figures:
    chunks = _planned(s3, settings, Pointer(BUCKET, MANIFEST))
    ranges = [chunk.manifest.range for chunk in chunks if chunk.manifest is not None]
    counts = [len(range(items)[numbers.start : numbers.stop]) for numbers in map(lines_in, ranges)]
    stored = EndlessS3(chunks=counts, part_bytes=settings.result_part_bytes)
    services = _services(stored)
    fork = ChunkWorker(S3Store(stored), FLOW).fork
    plan = ChunkPlan(tuple(chunks), None, ChunkPlan.token_of(chunks), 64)
    results = ChunkResults(fork, plan, _Ended(counts), lambda spec: folder_of(spec.number), services)
    target = folder_of(0).below("aggregated").pointer("all", ending=".jsonl")
    joined = join_results(fork, results.read(), services, target, max_inline_bytes=1 << 24)
    assert (joined.count, joined.failed) == (items, 0), joined
    s3.requests, s3.bytes = stored.requests, stored.bytes
    s3.fake_seconds += stored.fake_seconds
    return {"items": joined.count}


class _Ended:
    """The outcomes of chunks that have all ended well."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts

    def finished(self) -> dict[int, dict[str, Any]]:
        return {number: {"items": count} for number, count in enumerate(self._counts)}

    def reason(self, chunk: ChunkSpec) -> str:
        return f"chunk {chunk.number} has no results"


if __name__ == "__main__":
    from airflow_allma.operators.fork_chunk import ForkChunkOperator as _  # noqa: F401 - a task process imports it

    print(json.dumps(_measured(sys.argv[1], *map(int, sys.argv[2:]))))
