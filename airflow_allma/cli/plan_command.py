"""``airflow-allma plan``: what Airflow would do with a flow and a payload, without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import typer

from airflow_allma.cli.fork_plans import SHOWN_NUMBERS, ForkPlans
from airflow_allma.cli.json_options import read_object
from airflow_allma.cli.run_command import open_store_option
from airflow_allma.cli.select_flow import select_flow
from airflow_allma.cli.start_lines import described_starts, start_lines
from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.configuration import load_settings
from airflow_allma.dag_factory.plan import plan_tasks
from airflow_allma.dag_factory.plan.drawing import draw_text
from airflow_allma.exceptions import AllmaError
from airflow_allma.flow import DeployVariables, Flow
from airflow_allma.settings import OPTIONS, AllmaSettings
from airflow_allma.storage import ObjectStore
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.opening import open_store

__all__ = ["plan_flow_file"]

_SETTINGS: Final = (
    "max_in_memory_items",
    "max_in_memory_bytes",
    "max_waiting_tasks",
    "chunk_bytes",
    "max_chunks",
    "chunk_concurrency",
    "offload_location",
)
_MAX_LISTED: Final = 10
"""Maximum number of chunks in the list; ``--json`` lists all."""


def plan_flow_file(
    path: Path,
    *,
    payload: str,
    store: str | None,
    as_json: bool,
    flow_id: str | None,
    deploy: DeployVariables,
) -> int:
    """Print the plan to standard output.

    Returns:
        The exit code: 0, or 2 when the flow or the call is not valid, or a manifest cannot be read.
    """
    try:
        run_payload = read_object(payload, "--payload")
        objects = open_store_option(store, create=False)
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    source = select_flow(path, flow_id, deploy)
    if source is None:
        return 2
    plan = plan_tasks(source.flow)
    try:
        settings = load_settings(source.flow.airflow)
        forks = ForkPlans(source.flow, plan, settings, objects or _store_of(settings)).plan(run_payload)
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
        answer = {
            "dag": plan.dag_id,
            "flow": plan.flow_id,
            "starts": described_starts(source.flow),
            "tasks": tasks,
            "forks": forks,
            "settings": shown,
        }
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        typer.echo(draw_text(plan))
        for line in start_lines(described_starts(source.flow)):
            typer.echo(line)
        typer.echo("\n".join([line for fork in forks for line in _fork_lines(fork)] + _setting_lines(shown)))
    return 0


def _store_of(settings: AllmaSettings) -> ObjectStore:
    """Return the store that tasks would have, but with the credentials of the environment."""
    return open_store(EnvironmentAws(), OffloadLocation.from_setting(settings.offload_location))


def _shown_settings(flow: Flow, settings: AllmaSettings) -> dict[str, dict[str, Any]]:
    own = flow.airflow
    shown: dict[str, dict[str, Any]] = {}
    for name in (field.name for field in fields(settings) if field.name in _SETTINGS):
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
    if "resultsLocation" in fork:
        lines.append(f"  results: files below {fork['resultsLocation']}")
    if "items" in fork:
        least = "at least " if fork.get("hasMore") else ""
        of_json = "" if "format" in fork else " of JSON"
        lines.append(f"  {least}{fork['items']} items, {fork['bytes']} bytes{of_json}")
    if "manifest" in fork:
        manifest = fork["manifest"]
        lines.append(f"  manifest: {manifest['bucket']}/{manifest['key']}, {manifest['bytes']} bytes")
    if "prefix" in fork:
        lines.append(f"  objects below: {fork['prefix']['bucket']}/{fork['prefix']['prefix']}")
    lines += [f"  {name}: {fork[name]}" for name in SHOWN_NUMBERS if name in fork]
    if "planning" in fork:
        planning = fork["planning"]
        lines.append(f"  planning: {planning['requests']} requests, {planning['readBytes']} bytes read")
    if "mostChunks" in fork:
        lines.append(f"  chunks: at most {fork['mostChunks']}")
    for task, count in fork.get("mapIndexes", {}).items():
        lines.append(f"  map indexes of {task}: {_bound(fork)}{count}")
    if "concurrencyPerChunk" in fork:
        lines.append(f"  items in flight in one chunk: {fork['concurrencyPerChunk']}")
    chunks = fork.get("chunks") or []
    sizes = fork.get("chunkBytes") or []
    shown = zip_longest(chunks[:_MAX_LISTED], sizes[:_MAX_LISTED])
    lines += [f"    {label}" + (f", {size} bytes" if size is not None else "") for label, size in shown]
    if len(chunks) > _MAX_LISTED:
        lines.append(f"    ... and {len(chunks) - _MAX_LISTED} more, the last: {chunks[-1]}")
    return lines


def _bound(fork: Mapping[str, Any]) -> str:
    if fork.get("hasMore"):
        return "at least "
    return "at most " if fork.get("atMost") else ""


def _setting_lines(shown: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return ["settings:"] + [
        f"  {name} = {setting['value'] if setting['value'] != '' else '(none)'} ({setting['from']})"
        for name, setting in shown.items()
    ]
