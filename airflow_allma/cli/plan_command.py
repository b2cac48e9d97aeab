"""``airflow-allma plan``: what Airflow would do with a flow and a payload, without running it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import typer

from airflow_allma.cli.run_command import open_store, read_payload
from airflow_allma.cli.select_flow import select_flow
from airflow_allma.cli.static_items import NotPredictableError, predict_items
from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.configuration import load_settings
from airflow_allma.dag_factory.plan import TaskPlan, TaskRole, plan_tasks
from airflow_allma.dag_factory.plan.drawing import draw_text
from airflow_allma.distributed.chunk_plan import (
    MAX_COUNTED_BYTES,
    ChunkSpec,
    chunk_concurrency,
    is_spilled,
    plan_fork_chunks,
)
from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode, decide_fork
from airflow_allma.engine import CompiledFork, EngineSettings, FlowProgram, ForkItems, Services, compile_flow
from airflow_allma.exceptions import AllmaError
from airflow_allma.flow import Flow, ParallelForkManagerStep
from airflow_allma.settings import OPTIONS, AllmaSettings
from airflow_allma.storage import LocalStore, ObjectStore, Pointer, RoutedStore, S3Store
from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.manifest_ranges import plan_chunks
from airflow_allma.storage.memory import MemoryStore

__all__ = ["plan_flow_file"]

_SETTINGS: Final = (
    "max_in_memory_items",
    "max_in_memory_bytes",
    "chunk_bytes",
    "max_chunks",
    "chunk_concurrency",
    "offload_location",
)
_MAX_LISTED: Final = 10
"""Chunks that the text lists; ``--json`` lists all."""


def plan_flow_file(path: Path, *, payload: str, store: str | None, as_json: bool, flow_id: str | None) -> int:
    """Print the plan to standard output.

    Returns:
        The exit code: 0, or 2 when the flow or the call is not valid, or a manifest cannot be read.
    """
    try:
        run_payload = read_payload(payload)
        objects = open_store(store, create=False) if store else None
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    source = select_flow(path, flow_id)
    if source is None:
        return 2
    plan = plan_tasks(source.flow)
    try:
        settings = load_settings(source.flow.airflow)
        forks = _Forks(source.flow, plan, settings, objects or _store_of(settings)).plan(run_payload)
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    shown = _shown_settings(source.flow, settings)
    if as_json:
        tasks = [
            {
                "id": task.task_id,
                "role": task.role.value,
                "steps": task.steps,
                "groups": task.groups,
                "upstream": task.upstream,
                "mapped": task.is_mapped,
                "atATime": task.max_active,
            }
            for task in plan.tasks
        ]
        answer = {"dag": plan.dag_id, "flow": plan.flow_id, "tasks": tasks, "forks": forks, "settings": shown}
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        typer.echo(draw_text(plan))
        typer.echo("\n".join([line for fork in forks for line in _fork_lines(fork)] + _setting_lines(shown)))
    return 0


def _store_of(settings: AllmaSettings) -> ObjectStore:
    """Return the store that tasks would have, but with the credentials of the environment."""
    location = settings.offload_location
    files = LocalStore(Path(location.removeprefix("file://"))) if location.startswith("file://") else None
    return RoutedStore(S3Store(EnvironmentAws()), files)


@dataclass(frozen=True, slots=True)
class _Forks:
    """Plans the forks of one flow."""

    flow: Flow
    plan_of_flow: TaskPlan
    settings: AllmaSettings
    store: ObjectStore
    program: FlowProgram = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", compile_flow(self.flow))

    def plan(self, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
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
            "itemsPath": fork.items_path.text if fork.items_path else None,
        }
        try:
            items = predict_items(self.program, fork, context)
        except NotPredictableError as error:
            return {**head, "mode": "decided when it runs", "reason": str(error)}
        decision = decide_fork(fork, items, self.settings)
        head["mode"] = decision.mode.value
        if items.pointer is not None:
            return {**head, **self._manifest(fork, items.pointer)}
        head |= {"reason": decision.reason, "items": decision.count, "bytes": decision.size}
        if decision.mode is ForkMode.MEMORY:
            return {**head, "mapIndexes": {branch.branch_id: decision.count for branch in fork.branches}}
        return {**head, **self._list(fork, items, decision)}

    def _list(self, fork: CompiledFork, items: ForkItems, decision: ForkDecision) -> dict[str, Any]:
        # What a task would write to the offload location stays in memory, where the list already is.
        location = OffloadLocation.parse("s3://plan/plan") if self.settings.offload_location else None
        services = Services(store=MemoryStore(), settings=EngineSettings(offload_location=location))
        values = items.values or []
        chunks = []
        if fork.branches:
            chunks = plan_fork_chunks(decision, lambda: values, services, self.settings, ("plan",))
        return {
            "writtenFirst": is_spilled(decision, self.settings),
            **self._chunks(fork, chunks),
        }

    def _manifest(self, fork: CompiledFork, pointer: Pointer) -> dict[str, Any]:
        info = self.store.head(pointer)
        manifest = {**info.pointer.inner(), "bytes": info.size, "etag": info.etag}
        if kind_of(pointer.key, info.content_type) is not ContentKind.JSON_LINES or _is_packed(
            pointer.key, info.content_type, info.content_encoding
        ):
            return {
                "reason": _streamed_first(has_location=bool(self.settings.offload_location)),
                "manifest": manifest,
                "chunks": None,
                "mostChunks": self.settings.max_chunks,
            }
        ranges = plan_chunks(info.size, self.settings.chunk_bytes, self.settings.max_chunks)
        chunks = [ChunkSpec(number, f"bytes {start}-{end - 1}") for number, (start, end) in enumerate(ranges)]
        counted = info.size <= MAX_COUNTED_BYTES
        reason = "the items are in an object, named or typed as JSON Lines"
        if counted:
            reason += "; the planner also counts its lines and leaves out chunks in which none begins"
        return {
            "reason": reason,
            "manifest": manifest,
            "atMost": counted,
            **self._chunks(fork, chunks if fork.branches else []),
        }

    def _chunks(self, fork: CompiledFork, chunks: list[ChunkSpec]) -> dict[str, Any]:
        (task,) = (one for one in self.plan_of_flow.of_fork(fork.step_id) if one.role is TaskRole.CHUNK)
        return {
            "mapIndexes": {"chunk": len(chunks)},
            "chunks": [chunk.label for chunk in chunks],
            "maxConcurrency": fork.max_concurrency,
            "concurrencyPerChunk": chunk_concurrency(fork, len(chunks), task.max_active, self.settings),
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


def _streamed_first(*, has_location: bool) -> str:
    reason = (
        "the object is not named or typed as plain JSON Lines. If it holds gzip or one JSON array, the "
        "planner streams it to the offload location first, and only then knows its chunks"
    )
    if has_location:
        return reason
    return f"{reason}; no offload_location is set, so the fork would fail: set one"


def _shown_settings(flow: Flow, settings: AllmaSettings) -> dict[str, dict[str, Any]]:
    own = flow.airflow
    shown: dict[str, dict[str, Any]] = {}
    for name in (one.name for one in fields(settings) if one.name in _SETTINGS):
        value, override = getattr(settings, name), getattr(own, name, None)
        if override is not None:
            source = "the flow's airflow object" if value == override else "[core] max_map_length"
        else:
            source = "default" if str(value) == OPTIONS[name].default else "Airflow's configuration"
        shown[name] = {"value": value, "from": source}
    return shown


def _fork_lines(fork: Mapping[str, Any]) -> list[str]:
    lines = [f"fork {fork['step']}: {fork['mode']}", f"  why: {fork['reason']}"]
    if fork.get("itemsPath"):
        lines.append(f"  items: {fork['itemsPath']}")
    if "items" in fork:
        lines.append(f"  {fork['items']} items, {fork['bytes']} bytes of JSON")
    if "manifest" in fork:
        manifest = fork["manifest"]
        lines.append(f"  manifest: {manifest['bucket']}/{manifest['key']}, {manifest['bytes']} bytes")
    if "mostChunks" in fork:
        lines.append(f"  chunks: at most {fork['mostChunks']}")
    for task, count in fork.get("mapIndexes", {}).items():
        lines.append(f"  map indexes of {task}: {'at most ' if fork.get('atMost') else ''}{count}")
    if "concurrencyPerChunk" in fork:
        lines.append(f"  items in flight in one chunk: {fork['concurrencyPerChunk']}")
    chunks = fork.get("chunks") or []
    lines += [f"    {label}" for label in chunks[:_MAX_LISTED]]
    if len(chunks) > _MAX_LISTED:
        lines.append(f"    ... and {len(chunks) - _MAX_LISTED} more, the last: {chunks[-1]}")
    return lines


def _setting_lines(shown: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return ["settings:"] + [
        f"  {name} = {one['value'] if one['value'] != '' else '(none)'} ({one['from']})"
        for name, one in shown.items()
    ]
