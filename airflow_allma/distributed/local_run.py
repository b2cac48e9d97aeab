"""Forks in chunks without Airflow: planned, run, written and joined in one process as in Airflow's tasks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from airflow_allma.distributed.chunk_items import open_result_files
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec, chunk_concurrency, plan_fork_chunks
from airflow_allma.distributed.chunk_results import ChunkResults, chunk_folder, store_plan
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
from airflow_allma.engine.suspension import SuspendStep, Wait
from airflow_allma.settings import AllmaSettings

__all__ = ["ChunkedForkRunner"]


@dataclass(slots=True)
class _Outcomes:
    """The outcomes of chunks that ran in this process, or in those before it.

    Attributes:
        results: chunk number -> what it passed on.
        errors: chunk number -> name and message of the error with which it failed.
        parked: chunk number -> what is kept of a chunk with items that wait.
        waits: what these items wait for.
    """

    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    parked: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)

    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """Return what each chunk passed on."""
        return self.results

    def reason(self, chunk: ChunkSpec) -> str:
        """Return why a chunk left items without results."""
        error = self.errors.get(chunk.number)
        if error is not None:
            return f"chunk {chunk.number} ({chunk.label}) failed: {error}"
        return f"chunk {chunk.number} ({chunk.label}) ran, but its stored results are missing"

    def to_dict(self) -> dict[str, Any]:
        """Return the outcomes as a JSON object."""
        named: dict[str, Mapping[int, Any]] = {
            "results": self.results,
            "errors": self.errors,
            "parked": self.parked,
        }
        return {
            name: {str(number): value for number, value in values.items()} for name, values in named.items()
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Restore what ``to_dict`` returned."""
        results, errors, parked = (
            {int(number): value for number, value in saved[name].items()}
            for name in ("results", "errors", "parked")
        )
        return cls(results, errors, parked)


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
            SuspendStep: branch runs wait for events.
        """
        run = ForkRun(fork, context, info, services)
        if saved is not None and "plan" in saved:
            run = replace(run, limits=fork.limits.restore(saved.get("limits") or {}))
            plan = ChunkPlan.from_dict(saved["plan"])
            outcomes = _Outcomes.from_dict(saved)
            for chunk in plan.chunks:
                if (kept := outcomes.parked.pop(chunk.number, None)) is not None:
                    await self._run_chunk(outcomes, run, plan, chunk, kept=kept)
            return await self._join(run, plan, outcomes)
        if saved is not None or info.branch_id is not None or not fork.branches:
            return await run_fork(fork, context, info, services, saved)
        items = await resolve_items(fork, context, services)
        decision = decide_fork(fork, items, self.settings)
        if decision.mode is ForkMode.MEMORY:
            return await run_fork(fork, context, info, services)
        run = replace(run, limits=items.limits)
        # A fork in a loop runs several times; each time has a plan and results of its own.
        attempt = uuid.uuid4().hex
        plan = await self._plan(fork, decision, items, info, services, attempt=attempt)
        services.log.info("%s: %d chunks (%s)", fork.step_id, len(plan.chunks), decision.reason)
        outcomes = _Outcomes()
        for chunk in plan.chunks:
            await self._run_chunk(outcomes, run, plan, chunk, items.values or ())
        return await self._join(run, plan, outcomes)

    async def _join(self, run: ForkRun, plan: ChunkPlan, outcomes: _Outcomes) -> dict[str, Any]:
        """Return the fork's output once nothing waits any more."""
        if outcomes.parked:
            limits = {} if run.limits is None else {"limits": dict(run.limits.computed)}
            raise SuspendStep(outcomes.waits, {"plan": plan.to_dict(), **limits, **outcomes.to_dict()})
        fork, info, services = run.fork, run.info, run.services
        files = chunk_items = None
        if fork.model.result_writer is not None:
            items = await resolve_items(fork, run.context, services)
            files, chunk_items = open_result_files(fork, info, services, items)
        folder_of = partial(chunk_folder, services, info, fork.step_id, plan)
        results = ChunkResults(fork, plan, outcomes, folder_of, services, chunk_items)
        joined = await services.in_thread(
            join_results,
            fork,
            results.read(),
            services,
            aggregate_target(fork, info, services, attempt=plan.token),
            limits=run.limits,
            max_inline_bytes=self.settings.max_inline_bytes,
            files=files,
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
            reader=fork.model.item_reader,
            limits=items.limits,
        )
        concurrency = chunk_concurrency(items.limits or fork.limits.fixed, len(chunks), 1, self.settings)
        plan = ChunkPlan(tuple(chunks), decision.count, attempt, concurrency)
        await services.in_thread(store_plan, services, info, fork.step_id, plan)
        return plan

    async def _run_chunk(
        self,
        outcomes: _Outcomes,
        run: ForkRun,
        plan: ChunkPlan,
        chunk: ChunkSpec,
        values: Sequence[Any] = (),
        *,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a chunk, or continue what is ``kept`` of it, and note its outcome."""
        services, number = run.services, chunk.number
        try:
            folder = chunk_folder(services, run.info, run.fork.step_id, plan, chunk)
            sink = await services.in_thread(
                open_sink, folder, services, self.settings, fork=run.fork, kept=kept
            )
            with sink:
                chunk_run = ChunkRun(run, chunk, sink, services.log)
                if kept is None:
                    await chunk_run.run(plan.concurrency, lambda: values)
                else:
                    await chunk_run.wake(plan.concurrency, kept["progress"])
            if waits := chunk_run.waits:
                parked = await services.in_thread(sink.park)
                outcomes.parked[number] = {**parked, "progress": chunk_run.progress.to_dict()}
                outcomes.waits += waits
            else:
                outcomes.results[number] = await services.in_thread(sink.finish, chunk_run.progress.items)
        except Exception as error:  # noqa: BLE001 - as in Airflow, the items of a failed chunk count as lost
            shown = step_error_from(error)
            outcomes.errors[number] = f"{shown.error_name}: {shown}"
