"""The work of a chunk task without Airflow, and a manifest for it to work on."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.chunk_run import ChunkRun
from airflow_allma.distributed.result_sinks import StoredSink
from airflow_allma.engine import EngineSettings, ForkRun, RunInfo, Services, compile_flow
from airflow_allma.engine.program import CompiledFork
from airflow_allma.flow import parse_flow
from airflow_allma.storage import LocalStore, ObjectStore, Pointer
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.manifest_plan import plan_manifest
from airflow_allma.storage.manifest_ranges import ManifestRange

LOG = logging.getLogger("airflow_allma.bench")
BUCKET = "bench"
COMPOSE: dict[str, Any] = {
    "stepType": "DATA_TRANSFORMATION",
    "moduleIdentifier": "system/compose-object-from-input",
    "inputMappings": {
        "id": "$.currentItem.userId",
        "region": "$.currentItem.region",
        "plan": "$.currentItem.account.plan",
    },
    "literals": {"kind": "user"},
}


def user(number: int) -> dict[str, Any]:
    """Return a record of about 150 bytes of JSON."""
    return {
        "userId": f"user-{number}",
        "region": "eu-west-1",
        "account": {"plan": "pro", "since": "2024-01-01", "limits": [1, 2, 3]},
        "note": "some text that nobody reads, to be long enough",
    }


def write_lines(file: Path, items: int) -> Path:
    """Write a manifest of ``items`` users."""
    file.parent.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    with file.open("wb", buffering=1 << 20) as out:
        for number in range(items):
            out.write(encode(user(number)) + b"\n")
    return file


def fork_flow(step: dict[str, Any], flow_id: str = "bench", **fork: Any) -> dict[str, Any]:
    """Return a flow with one fork whose branch is one step."""
    return {
        "id": flow_id,
        "startStepInstanceId": "fork",
        "steps": {
            "fork": {
                "stepType": "PARALLEL_FORK_MANAGER",
                "itemsPath": "$.initialContextData.items",
                "parallelBranches": [{"branchId": "each", "stepInstanceId": "work"}],
                **fork,
            },
            "work": step,
        },
    }


def plan(store: LocalStore, key: str, chunks: int, chunk_bytes: int = 1) -> tuple[ManifestRange, ...]:
    """Split an object into at most ``chunks`` chunks."""
    return plan_manifest(store, Pointer(BUCKET, key), range_bytes=chunk_bytes, max_ranges=chunks).ranges


def folder_of(number: int) -> OffloadLocation:
    """Return the folder for a chunk's results."""
    return OffloadLocation(BUCKET).below("bench", "bench-run", "fork", "results", "token", f"{number:06d}")


class ChunkWorker:
    """A runner of chunks of one flow; each runs as in a chunk task.

    ``labels`` says whether labels are kept; ``services`` are further ones of its steps. ``failed`` is how
    many items of the last chunk failed.
    """

    def __init__(
        self,
        store: ObjectStore,
        flow: dict[str, Any],
        *,
        concurrency: int = 64,
        part_bytes: int = 1 << 20,
        context: Any = None,
        labels: bool = True,
        may_fail: bool = False,
        **services: Any,
    ) -> None:
        self._services = services
        self._labels = labels
        self._part_bytes = part_bytes
        self._may_fail = may_fail
        self.failed = 0
        program = compile_flow(parse_flow(flow))
        fork = program.steps["fork"].fork
        assert fork is not None
        self.fork: CompiledFork = fork
        self._store = store
        self._concurrency = concurrency
        self.info = RunInfo.now("bench", 1, "bench-run")
        self._context = program.start_state(context or {}, "bench-run").context

    def run(self, chunk: ManifestRange, folder: OffloadLocation) -> int:
        """Run a chunk, whose items must all succeed unless they may fail, and return their number."""
        return asyncio.run(self._run(chunk, folder))

    async def _run(self, chunk: ManifestRange, folder: OffloadLocation) -> int:
        settings = EngineSettings(offload_location=OffloadLocation(BUCKET))
        services = Services(store=self._store, settings=settings, **self._services)
        fork = self.fork if self._labels else None
        with StoredSink(self._store, folder, self._part_bytes, fork=fork) as sink:
            fork_run = ForkRun(self.fork, self._context, self.info, services)
            work = ChunkRun(fork_run, ChunkSpec(chunk.number, "", manifest=chunk), sink, LOG)
            try:
                await work.run(self._concurrency, list)
            finally:
                await services.close()
        done = work.progress
        sink.finish(done.items)
        self.failed = done.failures.items
        assert self._may_fail or not self.failed, f"{done.failures.items} of {done.items} items failed"
        return done.items
