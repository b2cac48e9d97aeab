"""Flows that run each other without end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from airflow_allma.flow.diagnostics import Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.files import FlowSource
from airflow_allma.flow.models import Flow
from airflow_allma.flow.positions import Positions
from airflow_allma.flow.steps import StartFlowExecutionStep, StartSubFlowStep, Step

__all__ = ["check_flow_cycles"]

_Key = tuple[str, int]
"""A flow and its version."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A step that runs another flow.

    Attributes:
        path: the field that names the flow, from the root of its own flow.
        flow_id: the flow that it runs.
        version: its version, a number, or another string for the published one.
    """

    path: Path
    flow_id: str
    version: str | None


_Edges = Mapping[_Key, list[tuple[_Call, _Key]]]


def check_flow_cycles(
    sources: Iterable[FlowSource], running: Iterable[FlowSource], positions: Positions
) -> Iterator[Problem]:
    """Yield a warning for each step with which a flow runs itself again, whatever the data.

    Only steps that every run reaches count: those before the first transition with a condition.

    Args:
        sources: all versions of all valid flows that can run others.
        running: the version of each flow that runs.
        positions: locates the steps.
    """
    published = {source.flow.id: source.flow.version for source in running}
    by_key: dict[_Key, FlowSource] = {}
    for source in sources:
        by_key.setdefault((source.flow.id, source.flow.version), source)

    def called(call: _Call) -> _Key:
        if call.version is not None and call.version.isdecimal():
            return call.flow_id, int(call.version)
        return call.flow_id, published.get(call.flow_id, 0)

    edges: _Edges = {
        key: [(call, called(call)) for call in _certain_calls(source.flow)] for key, source in by_key.items()
    }
    for key, calls in edges.items():
        for call, target in calls:
            if way := _way(target, key, edges):
                source = by_key[key]
                path = (*source.path, *call.path)
                line, column = positions.find(source.file, path)
                message = _message(key, way)
                yield Problem(source.file, line, column, json_path(path), message, Severity.WARNING)


def _way(start: _Key, end: _Key, edges: _Edges) -> tuple[_Key, ...]:
    """Return the shortest way from one flow to another, both included; empty if there is none."""
    ways: dict[_Key, tuple[_Key, ...]] = {start: (start,)}
    waiting = [start]
    for key in waiting:
        if key == end:
            return ways[key]
        for _, called in edges.get(key, ()):
            if called not in ways:
                ways[called] = (*ways[key], called)
                waiting.append(called)
    return ()


def _message(key: _Key, way: tuple[_Key, ...]) -> str:
    through = ", which runs ".join(quoted(flow_id) for flow_id, _ in way)
    return (
        f"flow {quoted(key[0])} runs {through} again, and no condition ends that, so it fails when too many "
        "flows are nested; add a transition with a condition before this step"
    )


def _certain_calls(flow: Flow) -> Iterator[_Call]:
    """Yield the steps that run flows and that every run reaches."""
    seen: set[str] = set()
    step: Step | None = flow.steps.get(flow.start_step_instance_id)
    while step is not None and step.step_instance_id not in seen:
        seen.add(step.step_instance_id)
        # A step that goes on after an error ends the recursion with it.
        handler = step.on_error
        if handler is None or not (handler.continue_on_failure or handler.fallback_step_instance_id):
            yield from _calls(step)
        if step.transitions:
            return
        following = step.default_next_step_instance_id
        step = flow.steps.get(following) if following is not None else None


def _calls(step: Step) -> Iterator[_Call]:
    base = ("steps", step.step_instance_id)
    if isinstance(step, StartSubFlowStep):
        yield _Call((*base, "subFlowDefinitionId"), step.sub_flow_definition_id, step.sub_flow_version)
    elif isinstance(step, StartFlowExecutionStep) and step.flow_definition_id:
        yield _Call((*base, "flowDefinitionId"), step.flow_definition_id, step.flow_version)
