"""Forks in chunks without Airflow: planned, run, written and joined in one process as in Airflow's tasks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec, chunk_concurrency, plan_fork_chunks
from airflow_allma.distributed.chunk_results import ChunkResults, chunk_folder
from airflow_allma.distributed.chunk_run import ChunkRun
from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode, decide_fork
from airflow_allma.distributed.result_sinks import open_sink
from airflow_allma.engine import (
    CompiledFork,
    ForkItems,
    ForkRun,
    RunInfo,
    Services,
    aggregate_target,
    join_results,
    resolve_items,
    run_fork,
)
from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import StepError
from airflow_allma.settings import AllmaSettings

__all__ = ["ChunkedForkRunner"]


@dataclass(slots=True)
class _Outcomes:
    """The outcomes of chunks that ran in this process."""

    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, StepError] = field(default_factory=dict)

    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """Return what each chunk passed on."""
        return self.results

    def reason(self, chunk: ChunkSpec) -> str:
        """Return why a chunk left items without results."""
        error = self.errors.get(chunk.number)
        if error is not None:
            return f"chunk {chunk.number} ({chunk.label}) failed: {error.error_name}: {error}"
        return f"chunk {chunk.number} ({chunk.label}) ran, but its stored results are missing"


@dataclass(frozen=True, slots=True)
class ChunkedForkRunner:
    """A ``Services.fork_runner`` that runs the main path's forks in chunks where Airflow would.

    Chunks run one after the other, so a fork's ``maxConcurrency`` applies to each of them. Forks inside
    branches run on the event loop of their branch, as in Airflow.

    Attributes:
        settings: when forks run in chunks, and how they are split.
    """

    settings: AllmaSettings

    async def __call__(
        self,
        fork: CompiledFork,
        context: Mapping[str, Any],
        info: RunInfo,
        services: Services,
        saved: Any = None,
    ) -> dict[str, Any]:
        """Run a whole fork and return ``{"aggregatedData": ...}``.

        Raises:
            StepError: the items cannot be read, or more branch runs failed than the fork tolerates.
            StorageError: an object cannot be read, or the results cannot be stored.
        """
        if info.branch_id is not None or not fork.branches:
            return await run_fork(fork, context, info, services, saved)
        items = await resolve_items(fork, context, services)
        decision = decide_fork(fork, items, self.settings)
        if decision.mode is ForkMode.MEMORY:
            return await run_fork(fork, context, info, services, saved)
        # A fork in a loop runs several times; each time has a plan and results of its own.
        attempt = uuid.uuid4().hex
        plan = await self._plan(fork, decision, items, info, services, attempt=attempt)
        services.log.info("%s: %d chunks (%s)", fork.step_id, len(plan.chunks), decision.reason)
        outcomes = _Outcomes()
        run = ForkRun(fork, context, info, services)
        for chunk in plan.chunks:
            try:
                outcomes.results[chunk.number] = await self._run_chunk(run, plan, chunk, items)
            except Exception as error:  # noqa: BLE001 - as in Airflow, the items of a failed chunk count as lost
                outcomes.errors[chunk.number] = step_error_from(error)
        results = ChunkResults(
            fork, plan, outcomes, partial(chunk_folder, services, info, fork.step_id, plan), services
        )
        joined = await services.in_thread(
            join_results,
            fork,
            results.read(),
            services,
            aggregate_target(fork, info, services, attempt=attempt),
            max_inline_bytes=self.settings.max_inline_bytes,
        )
        return joined.output

    async def _plan(
        self,
        fork: CompiledFork,
        decision: ForkDecision,
        items: ForkItems,
        info: RunInfo,
        services: Services,
        *,
        attempt: str,
    ) -> ChunkPlan:
        chunks = await services.in_thread(
            plan_fork_chunks,
            decision,
            lambda: items.values or [],
            services,
            self.settings,
            (*info.key_ids, fork.step_id, attempt),
        )
        concurrency = chunk_concurrency(fork, len(chunks), 1, self.settings)
        return ChunkPlan(tuple(chunks), decision.count, attempt, concurrency)

    async def _run_chunk(
        self, run: ForkRun, plan: ChunkPlan, chunk: ChunkSpec, items: ForkItems
    ) -> Mapping[str, Any]:
        folder = chunk_folder(run.services, run.info, run.fork.step_id, plan, chunk)
        sink = await run.services.in_thread(open_sink, folder, run.services, self.settings)
        with sink:
            chunk_run = ChunkRun(run, chunk, sink, run.services.log)
            await chunk_run.run(plan.concurrency, lambda: items.values or [])
        return await run.services.in_thread(sink.finish, chunk_run.progress.items)
