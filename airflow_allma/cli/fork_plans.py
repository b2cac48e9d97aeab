"""What each fork of a flow would do: its mode, map indexes and chunks, from a look at its items."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_allma.cli.static_items import NotPredictableError, predict_items
from airflow_allma.dag_factory.plan import TaskPlan, TaskRole
from airflow_allma.distributed.chunk_plan import (
    ChunkSpec,
    chunk_concurrency,
    is_spilled,
    max_chunks,
    plan_fork_chunks,
)
from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode, decide_fork
from airflow_allma.engine import CompiledFork, EngineSettings, FlowProgram, ForkItems, Services, compile_flow
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.readers import Split, estimate_items
from airflow_allma.engine.readers.read_estimate import ReadEstimate
from airflow_allma.flow import Flow, ParallelForkManagerStep
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, ObjectPrefix, ObjectStore, OffloadLocation, Pointer

__all__ = ["SHOWN_NUMBERS", "ForkPlans"]

SHOWN_NUMBERS: Final = ("maxItems", "toleratedFailurePercentage", "toleratedFailureCount")
"""The numbers of a fork that a plan shows if the fork has them."""

_NO_LOCATION: Final = "no offload_location is set, so the fork would fail: set one"


@dataclass(frozen=True, slots=True)
class ForkPlans:
    """Plans the forks of one flow, without running anything.

    Attributes:
        flow: the flow.
        plan_of_flow: its tasks.
        settings: when forks run in chunks, and how they are split.
        store: where manifests are looked up.
    """

    flow: Flow
    plan_of_flow: TaskPlan
    settings: AllmaSettings
    store: ObjectStore
    program: FlowProgram = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", compile_flow(self.flow))

    def plan(self, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what each fork of the flow would do with a payload, as JSON objects.

        Raises:
            AllmaError: the payload does not match, or a manifest cannot be looked up.
        """
        context = self.program.start_state(payload, str(uuid.uuid4())).context
        spread = {group.fork for group in self.plan_of_flow.groups if group.branch is None}
        forks = []
        for task in self.plan_of_flow.tasks:
            if task.role is TaskRole.ITEMS:
                forks.append(self._spread(task.steps[0], context))
            elif task.fork is None:
                forks += [
                    _inside(model, task.task_id)
                    for step in task.steps
                    if step not in spread
                    and isinstance(model := self.flow.steps[step], ParallelForkManagerStep)
                ]
        return forks

    def _spread(self, step_id: str, context: Mapping[str, Any]) -> dict[str, Any]:
        fork = self.program.fork(step_id)
        head: dict[str, Any] = {
            "step": step_id,
            "itemsPath": fork.items_path.source if fork.items_path else None,
            **_written(fork.model),
        }
        try:
            items = predict_items(self.program, fork, context)
        except NotPredictableError as error:
            return {**head, "mode": "decided when it runs", "reason": str(error)}
        decision = decide_fork(fork, items, self.settings)
        head["mode"] = decision.mode.value
        limits = items.limits or fork.limits.fixed
        shown = (limits.max_items, limits.tolerated_percentage, limits.tolerated_count)
        numbers = zip(SHOWN_NUMBERS, shown, strict=True)
        head |= {name: value for name, value in numbers if value is not None}
        if items.pointer is not None:
            return {**head, **self._manifest(fork, items.pointer, limits)}
        head |= {"reason": decision.reason, "items": decision.count, "bytes": decision.size}
        if decision.mode is ForkMode.MEMORY:
            return {**head, "mapIndexes": {branch.branch_id: decision.count for branch in fork.branches}}
        return {**head, **self._list(fork, items, decision, limits)}

    def _list(
        self, fork: CompiledFork, items: ForkItems, decision: ForkDecision, limits: ForkLimits
    ) -> dict[str, Any]:
        # What a task would write to the offload location stays in memory, where the list already is.
        location = OffloadLocation.parse("s3://plan/plan") if self.settings.offload_location else None
        services = Services(store=MemoryStore(), settings=EngineSettings(offload_location=location))
        values = items.values or []
        chunks = []
        if fork.branches:
            chunks = plan_fork_chunks(
                decision, lambda: values, services, self.settings, ("plan",), limits=limits
            )
        return {
            "writtenFirst": is_spilled(decision, self.settings),
            **self._chunks(fork, chunks, limits),
        }

    def _manifest(
        self, fork: CompiledFork, target: Pointer | ObjectPrefix, limits: ForkLimits
    ) -> dict[str, Any]:
        """Return what a look at the source shows: format, chunks, and the cost of planning and of chunks."""
        split = Split(
            self.settings.chunk_bytes,
            max_chunks(limits, self.settings),
            max_unpack_ratio=self.settings.max_unpack_ratio,
        )
        found = estimate_items(self.store, target, fork.model.item_reader, split)
        where: dict[str, Any] = {"prefix": target.inner()} if isinstance(target, ObjectPrefix) else {}
        if found.info is not None:
            info = found.info
            where = {"manifest": {**info.pointer.inner(), "bytes": info.size, "etag": info.etag}}
        about = {
            "reason": _reason(found, has_location=bool(self.settings.offload_location)),
            **where,
            "format": found.content,
            "planning": {
                "requests": found.planning_requests,
                "readBytes": found.planning_bytes,
                "writesFirst": found.written_first,
            },
            "hasMore": found.at_least,
            **({} if found.items is None else {"items": found.items}),
            **({} if found.size is None else {"bytes": found.size}),
        }
        if limits.has_batches:
            about["reason"] = _batched_first(has_location=bool(self.settings.offload_location))
            about["planning"] |= {"readBytes": found.size or 0, "writesFirst": True}
        if found.chunks is None or limits.has_batches:
            return {**about, "chunks": None, "mostChunks": max_chunks(limits, self.settings)}
        costs = found.chunks if fork.branches else []
        chunks = [ChunkSpec(number, cost.label) for number, cost in enumerate(costs)]
        return {
            **about,
            "atMost": found.most_chunks or limits.max_items is not None,
            **self._chunks(fork, chunks, limits),
            "chunkBytes": [cost.size for cost in costs],
        }

    def _chunks(self, fork: CompiledFork, chunks: list[ChunkSpec], limits: ForkLimits) -> dict[str, Any]:
        (task,) = (task for task in self.plan_of_flow.of_fork(fork.step_id) if task.role is TaskRole.CHUNK)
        return {
            "mapIndexes": {"chunk": len(chunks)},
            "chunks": [chunk.label for chunk in chunks],
            "maxConcurrency": limits.max_concurrency,
            "concurrencyPerChunk": chunk_concurrency(limits, len(chunks), task.max_active, self.settings),
            "chunksAtATime": task.max_active,
        }


def _written(fork: ParallelForkManagerStep) -> dict[str, Any]:
    return {} if fork.result_writer is None else {"resultsLocation": fork.result_writer.location}


def _inside(fork: ParallelForkManagerStep, task: str) -> dict[str, Any]:
    return {
        "step": fork.step_instance_id,
        **_written(fork),
        "mode": "inside a task",
        "reason": f"it is part of a loop: all of it runs in the process of task {task}",
    }


def _batched_first(*, has_location: bool) -> str:
    reason = (
        "the items are put into batches (itemBatcher): the planner writes these to the offload location "
        "first, and only then knows its chunks"
    )
    return reason if has_location else f"{reason}; {_NO_LOCATION}"


def _reason(found: ReadEstimate, *, has_location: bool) -> str:
    reason = f"the items are in an object: {found.content}"
    if found.info is None:
        reason = f"the items are {found.content}"
    if found.written_first and found.chunks is None:
        reason += "; the planner writes it to the offload location first, and only then knows its chunks"
    elif found.written_first:
        reason += "; the planner writes their list to the offload location"
    elif found.most_chunks:
        reason += "; the planner also counts its items and leaves out chunks in which none begins"
    if found.written_first and not has_location:
        reason += f"; {_NO_LOCATION}"
    return reason
