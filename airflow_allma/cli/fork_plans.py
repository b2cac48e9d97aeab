"""What each fork of a flow would do: its mode, map indexes and chunks, from one HEAD of its manifest."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_allma.cli.static_items import NotPredictableError, predict_items
from airflow_allma.dag_factory.plan import TaskPlan, TaskRole
from airflow_allma.distributed.chunk_plan import (
    MAX_COUNTED_BYTES,
    ChunkSpec,
    chunk_concurrency,
    is_spilled,
    max_chunks,
    plan_fork_chunks,
)
from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode, decide_fork
from airflow_allma.engine import CompiledFork, EngineSettings, FlowProgram, ForkItems, Services, compile_flow
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.flow import Flow, ParallelForkManagerStep
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, ObjectPrefix, ObjectStore, OffloadLocation, Pointer
from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.manifest_ranges import plan_ranges

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
                    _inside(step, task.task_id)
                    for step in task.steps
                    if step not in spread and isinstance(self.flow.steps[step], ParallelForkManagerStep)
                ]
        return forks

    def _spread(self, step_id: str, context: Mapping[str, Any]) -> dict[str, Any]:
        fork = self.program.fork(step_id)
        head: dict[str, Any] = {
            "step": step_id,
            "itemsPath": fork.items_path.source if fork.items_path else None,
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
        self, fork: CompiledFork, pointer: Pointer | ObjectPrefix, limits: ForkLimits
    ) -> dict[str, Any]:
        if isinstance(pointer, ObjectPrefix):
            return {
                "reason": _listed_first(has_location=bool(self.settings.offload_location)),
                "prefix": pointer.inner(),
                "chunks": None,
                "mostChunks": max_chunks(limits, self.settings),
            }
        info = self.store.head(pointer)
        manifest = {**info.pointer.inner(), "bytes": info.size, "etag": info.etag}
        if kind_of(pointer.key, info.content_type) is not ContentKind.JSON_LINES or _is_packed(
            pointer.key, info.content_type, info.content_encoding
        ):
            return {
                "reason": _streamed_first(has_location=bool(self.settings.offload_location)),
                "manifest": manifest,
                "chunks": None,
                "mostChunks": max_chunks(limits, self.settings),
            }
        ranges = plan_ranges(info.size, self.settings.chunk_bytes, max_chunks(limits, self.settings))
        chunks = [ChunkSpec(number, f"bytes {start}-{end - 1}") for number, (start, end) in enumerate(ranges)]
        counted = info.size <= MAX_COUNTED_BYTES
        reason = "the items are in an object, named or typed as JSON Lines"
        if counted:
            reason += "; the planner also counts its lines and leaves out chunks in which none begins"
        return {
            "reason": reason,
            "manifest": manifest,
            "atMost": counted,
            **self._chunks(fork, chunks if fork.branches else [], limits),
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


def _inside(step: str, task: str) -> dict[str, Any]:
    return {
        "step": step,
        "mode": "inside a task",
        "reason": f"it is part of a loop: all of it runs in the process of task {task}",
    }


def _is_packed(key: str, content_type: str | None, encoding: str | None) -> bool:
    return key.lower().endswith(".gz") or "gzip" in f"{content_type} {encoding}".lower()


def _listed_first(*, has_location: bool) -> str:
    reason = "the planner lists the objects below the prefix, and only then knows its chunks"
    return reason if has_location else f"{reason}; {_NO_LOCATION}"


def _streamed_first(*, has_location: bool) -> str:
    reason = (
        "the object is not named or typed as plain JSON Lines. If it holds gzip or one JSON array, the "
        "planner streams it to the offload location first, and only then knows its chunks"
    )
    if has_location:
        return reason
    return f"{reason}; {_NO_LOCATION}"
