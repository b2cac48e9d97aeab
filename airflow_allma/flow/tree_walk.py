"""Walks through a flow that may be invalid: its steps, wherever they are, and the values in them.

All checks that are not about types walk over plain JSON: they report even when a model rejects the flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.module_ids import OWN_MODULE_TYPES, is_own_module
from airflow_allma.flow.normalize import START_FIELDS, implied_order, own_steps, type_of

__all__ = ["ANY", "LocatedStep", "Pattern", "Scope", "branches_of", "scopes", "select", "start_fields"]

Pattern = tuple[str, ...]
"""Keys on the way to a value; ``ANY`` matches each element of a list or each value of an object."""

ANY = "*"


@dataclass(frozen=True, slots=True)
class LocatedStep:
    """A step and its path.

    Attributes:
        id: the key in its map, or the ``stepInstanceId`` of a list's step.
        path: from the root of the flow.
        step: the step itself, a JSON object.
        kind: its step type, the alias resolved; empty if it is not a string.
    """

    id: str
    path: Path
    step: dict[str, Any]
    kind: str

    @property
    def runs_own_module(self) -> bool:
        """Whether a module of the installation does the work of the step, whatever its type."""
        module = self.step.get("moduleIdentifier")
        return self.kind in OWN_MODULE_TYPES and isinstance(module, str) and is_own_module(module)


@dataclass(frozen=True, slots=True)
class Scope:
    """Steps that can lead to each other: those of the flow, or the own steps of a branch.

    Attributes:
        path: where the steps are, from the root of the flow.
        steps: step id -> step; steps that are not objects are omitted.
        starts: path and id of each field that names the first step.
        implied: step id -> id of the next step, where the order of a list implies it.
        around: the scope of the branch's fork; None for the flow.
    """

    path: Path
    steps: Mapping[str, LocatedStep]
    starts: tuple[tuple[Path, str], ...]
    implied: Mapping[str, str]
    around: Scope | None

    @property
    def root(self) -> Scope:
        """The scope of the flow's own steps."""
        return self if self.around is None else self.around.root

    def home_of(self, start: str) -> Scope:
        """Return the scope of a branch without own steps whose fork is here: this one, or the flow's."""
        return self if start in self.steps else self.root


def scopes(flow: Mapping[str, Any]) -> list[Scope]:
    """Return every scope of a flow, the flow's own first."""
    start = flow.get("startStepInstanceId")
    starts: tuple[tuple[Path, str], ...] = (
        ((("startStepInstanceId",), start),) if isinstance(start, str) else ()
    )
    collected: list[Scope] = []
    _collect(flow.get("steps"), ("steps",), starts, None, collected)
    return collected


def _collect(
    steps: Any, path: Path, starts: tuple[tuple[Path, str], ...], around: Scope | None, collected: list[Scope]
) -> None:
    scope = Scope(
        path,
        {
            step_id: LocatedStep(step_id, (*path, key), step, _kind(step))
            for step_id, key, step in own_steps(steps)
            if isinstance(step, dict)
        },
        starts,
        {} if around is None else implied_order(steps),
        around,
    )
    collected.append(scope)
    for located in scope.steps.values():
        for branch_path, branch in branches_of(located):
            if isinstance(branch.get("steps"), dict | list):
                own = (*branch_path, "steps")
                _collect(branch["steps"], own, tuple(start_fields(branch_path, branch)), scope, collected)


def _kind(step: Mapping[str, Any]) -> str:
    kind = type_of(step)
    return kind if isinstance(kind, str) else ""


def branches_of(located: LocatedStep) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the branches of a step, each with its path; none if it is not a fork."""
    branches = located.step.get("parallelBranches")
    if isinstance(branches, list):
        for index, branch in enumerate(branches):
            if isinstance(branch, dict):
                yield (*located.path, "parallelBranches", index), branch


def start_fields(branch_path: Path, branch: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield the fields that name a branch's first step: (path, step id)."""
    for field in START_FIELDS:
        start = branch.get(field)
        if isinstance(start, str):
            yield (*branch_path, field), start


def select(value: Any, pattern: Pattern, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value that a pattern matches, with its path; values of another shape are skipped."""
    if not pattern:
        yield path, value
        return
    head, rest = pattern[0], pattern[1:]
    if head != ANY:
        if isinstance(value, dict) and head in value:
            yield from select(value[head], rest, (*path, head))
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from select(member, rest, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from select(member, rest, (*path, index))
