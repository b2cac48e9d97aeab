"""Graphs of step ids: which steps can follow which, and which steps form a loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from airflow_allma.flow.models import Flow
from airflow_allma.flow.steps import OnError, Step, StepType

__all__ = [
    "Component",
    "Exit",
    "ExitKind",
    "StepGraph",
    "components",
    "exits_of",
    "reachable",
    "successors_of",
]

StepGraph = Mapping[str, Sequence[str]]
"""Step id -> the ids of the steps that can follow it, in the order in which the step names them."""


@dataclass(frozen=True, slots=True)
class Component:
    """Steps that can all reach each other.

    Attributes:
        steps: their ids, in the order in which a walk from the start reaches them.
        is_loop: whether a walk can return to a step (several steps, or one that names itself).
        successors: ids of steps outside that can follow, each once.
    """

    steps: tuple[str, ...]
    is_loop: bool
    successors: tuple[str, ...]


class ExitKind(StrEnum):
    """Why a flow goes from a step to another one."""

    CONDITION = "condition"
    """A transition's condition was true."""
    NEXT = "next"
    """No transition was taken."""
    FALLBACK = "fallback"
    """The step failed, and its own error handler names the other step."""
    DEFAULT_FALLBACK = "default fallback"
    """The step failed, and the flow's error handler for all steps names the other step, too."""


@dataclass(frozen=True, slots=True)
class Exit:
    """One way from a step to another one.

    Attributes:
        target: id of the other step.
        kind: why the flow takes it.
        condition: the transition's condition; empty for the other kinds.
    """

    target: str
    kind: ExitKind
    condition: str = ""


def exits_of(step: Step, flow: Flow) -> tuple[Exit, ...]:
    """Return the ways from a step to others, in the order in which it names them; none after END_FLOW."""
    if step.step_type is StepType.END_FLOW:
        return ()
    found = [
        Exit(transition.next_step_instance_id, ExitKind.CONDITION, transition.condition)
        for transition in step.transitions
    ]
    if step.default_next_step_instance_id:
        found.append(Exit(step.default_next_step_instance_id, ExitKind.NEXT))
    default = _fallback(flow.default_step_config.default_error_handler if flow.default_step_config else None)
    target = _fallback(step.on_error) if step.on_error is not None else default
    if target:
        found.append(Exit(target, ExitKind.DEFAULT_FALLBACK if target == default else ExitKind.FALLBACK))
    return tuple(found)


def _fallback(handler: OnError | None) -> str | None:
    return handler.fallback_step_instance_id if handler else None


def successors_of(step: Step, flow: Flow) -> tuple[str, ...]:
    """Return the steps that can follow: by transitions, by default, as fallback; none after END_FLOW."""
    return tuple(dict.fromkeys(way.target for way in exits_of(step, flow)))


def reachable(graph: StepGraph, *starts: str) -> tuple[str, ...]:
    """Return the steps reachable from ``starts``, inclusive, nearest first."""
    seen = {start: None for start in starts if start in graph}
    waiting = deque(seen)
    while waiting:
        for target in graph[waiting.popleft()]:
            if target in graph and target not in seen:
                seen[target] = None
                waiting.append(target)
    return tuple(seen)


def components(graph: StepGraph, *starts: str) -> tuple[Component, ...]:
    """Split the steps that ``starts`` reach into strongly connected components, in topological order.

    The order depends only on the graph, so equal flows result in equal Dags.
    """
    order = {step: index for index, step in enumerate(reachable(graph, *starts))}
    groups = [tuple(sorted(steps, key=order.__getitem__)) for steps in _strongly_connected(graph, order)]
    return tuple(_component(graph, steps) for steps in reversed(groups))


def _component(graph: StepGraph, steps: tuple[str, ...]) -> Component:
    inside = frozenset(steps)
    outside = dict.fromkeys(
        target for step in steps for target in graph[step] if target in graph and target not in inside
    )
    return Component(
        steps=steps,
        is_loop=len(steps) > 1 or steps[0] in graph[steps[0]],
        successors=tuple(outside),
    )


def _strongly_connected(graph: StepGraph, order: Mapping[str, int]) -> Iterator[list[str]]:
    # Tarjan's algorithm with its own stack: a flow can be longer than Python's recursion limit.
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for root in order:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = []
        entering: str | None = root
        while entering is not None or work:
            if entering is not None:
                index[entering] = lowest[entering] = len(index)
                path.append(entering)
                on_path.add(entering)
                work.append((entering, iter(graph[entering])))
                entering = None
            step, targets = work[-1]
            for target in targets:
                if target not in order:
                    continue
                if target not in index:
                    entering = target
                    break
                if target in on_path:
                    lowest[step] = min(lowest[step], index[target])
            if entering is not None:
                continue
            work.pop()
            if work:
                parent = work[-1][0]
                lowest[parent] = min(lowest[parent], lowest[step])
            if lowest[step] == index[step]:
                component: list[str] = []
                while not component or component[-1] != step:
                    component.append(path.pop())
                    on_path.discard(component[-1])
                yield component
