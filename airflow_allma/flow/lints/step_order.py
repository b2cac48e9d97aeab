"""Which steps of a flow can run before which others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.step_links import StepLinks
from airflow_allma.flow.tree_walk import LocatedStep

__all__ = ["Edge", "StepOrder"]


class Edge(NamedTuple):
    """A step that can follow another."""

    field: str
    """The field of the other step that names it; empty if the order of a list, or a default, implies it."""
    path: Path
    """Where it is named."""
    target: LocatedStep
    """The step that follows."""

    @property
    def is_branch(self) -> bool:
        """Whether it is the first step of a branch."""
        return self.field == "parallelBranches"


class StepOrder:
    """The graph of a flow's steps: transitions, defaults, fallbacks, and from forks to their branches.

    Args:
        links: which steps name which others.

    Attributes:
        steps: all steps of the flow, in the order of the file.
        edges: path of a step -> the steps that can follow it.
        first_steps: those with which a run can begin.
    """

    def __init__(self, links: StepLinks) -> None:
        main = links.main
        self.steps = [step for scope in links.all_scopes for step in scope.steps.values()]
        self._numbers = {step.path: number for number, step in enumerate(self.steps)}
        self.edges: dict[Path, list[Edge]] = {}
        fallbacks = [
            Edge("", path, main.steps[step_id]) for path, step_id in links.fallbacks if step_id in main.steps
        ]
        for scope in links.all_scopes:
            for step in scope.steps.values():
                edges = [
                    Edge(_field(path, step), path, target.steps[step_id])
                    for path, step_id, target in links.by_step[step.path]
                    if step_id in target.steps
                ]
                if step.kind == "END_FLOW":
                    # Nothing follows it, whatever it names.
                    edges = []
                elif scope is main and "onError" not in step.step:
                    edges += fallbacks
                self.edges[step.path] = edges
        self.first_steps = links.first_steps
        self.has_start = any(step_id in main.steps for _, step_id in main.starts)

    @cached_property
    def reachable(self) -> frozenset[Path]:
        """The paths of the steps that a run can reach."""
        return self.reached_from(self.first_steps)

    def reached_from(self, first: Sequence[LocatedStep], *, into_branches: bool = True) -> frozenset[Path]:
        """Return the paths of the steps that can be reached from some, these included."""
        reached: set[Path] = set()
        waiting = list(first)
        while waiting:
            step = waiting.pop()
            if step.path in reached:
                continue
            reached.add(step.path)
            waiting.extend(
                edge.target for edge in self.edges[step.path] if into_branches or not edge.is_branch
            )
        return frozenset(reached)

    def precedes(self, earlier: Path, later: Path) -> bool:
        """Return whether a step can have run before another one does; a step in a loop precedes itself."""
        return bool(self._before[self._numbers[later]] >> self._numbers[earlier] & 1)

    @cached_property
    def _before(self) -> list[int]:
        """For each step, the set of steps before it, as the bits of an integer."""
        before = [0] * len(self.steps)
        waiting = set(range(len(self.steps)))
        while waiting:
            number = waiting.pop()
            with_itself = before[number] | 1 << number
            for edge in self.edges[self.steps[number].path]:
                next_number = self._numbers[edge.target.path]
                if with_itself | before[next_number] != before[next_number]:
                    before[next_number] |= with_itself
                    waiting.add(next_number)
        return before

    @cached_property
    def loops(self) -> tuple[tuple[LocatedStep, ...], ...]:
        """The groups of steps that can all follow each other, in the order of the file."""
        groups: dict[int, list[LocatedStep]] = {}
        for number, step in enumerate(self.steps):
            before = self._before[number]
            if not before >> number & 1:
                continue
            # Two steps are in the same loop if each precedes the other; then the same steps precede both.
            groups.setdefault(before, []).append(step)
        return tuple(map(tuple, groups.values()))


def _field(path: Path, step: LocatedStep) -> str:
    return str(path[len(step.path)]) if len(path) > len(step.path) else ""
