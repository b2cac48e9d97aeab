"""Which steps name which others as the next: found once, for all checks of a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, Scope, branches_of, select, start_fields

__all__ = ["Link", "StepLinks", "next_step_ids"]

# Where a step names the steps that may follow it: the field, and the way from its value.
_NEXT: Final[tuple[tuple[str, Pattern], ...]] = (
    ("transitions", (ANY, "nextStepInstanceId")),
    ("defaultNextStepInstanceId", ()),
    ("onError", ("fallbackStepInstanceId",)),
)
_DEFAULT_FALLBACK: Final[Pattern] = ("defaultStepConfig", "defaultErrorHandler", "fallbackStepInstanceId")
_START_POINTS: Final = frozenset({"SCHEDULE_START_POINT", "EMAIL_START_POINT"})


class Link(NamedTuple):
    """A step that may follow another one."""

    path: Path
    """Where it is named; the other step, if the order of a list implies it."""
    step_id: str
    scope: Scope
    """Where the step must be."""


class StepLinks:
    """The links between the steps of a flow, also those to steps that do not exist.

    Args:
        flow: the flow, a JSON object.
        all_scopes: its steps.

    Attributes:
        all_scopes: the same.
        main: the scope of the flow's own steps.
        starts: (where it is named, step id) of the first step, and of the fallback of all steps.
        fallbacks: those of ``starts`` that are the fallback.
        by_step: path of a step -> its links; steps are in the order of the file.
    """

    def __init__(self, flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> None:
        self.all_scopes = all_scopes
        self.main = all_scopes[0]
        self.fallbacks = tuple(
            (path, name) for path, name in select(flow, _DEFAULT_FALLBACK) if isinstance(name, str)
        )
        self.starts = (*self.main.starts, *self.fallbacks)
        own = {scope.path: scope for scope in all_scopes}
        self.by_step = {
            located.path: _links(located, scope, own)
            for scope in all_scopes
            for located in scope.steps.values()
        }

    @property
    def first_steps(self) -> list[LocatedStep]:
        """The steps with which a run can begin, and the fallback of all steps."""
        steps = self.main.steps
        named = [steps[step_id] for _, step_id in self.starts if step_id in steps]
        return named + [step for step in steps.values() if step.kind in _START_POINTS]

    @cached_property
    def may_loop(self) -> bool:
        """Whether a step leads to one that is not after it in the file: without any there are no loops."""
        if self.fallbacks:
            return True
        seen: set[Path] = set()
        for path, links in self.by_step.items():
            seen.add(path)
            for _, step_id, scope in links:
                if step_id in scope.steps and scope.steps[step_id].path in seen:
                    return True
        return False


def next_step_ids(located: LocatedStep, flow: Mapping[str, Any]) -> list[str]:
    """Return the steps that can follow a step, apart from those of a fork's branches."""
    named = [step_id for _, step_id in _named(located)]
    if located.step.get("onError") is None:
        named += [target for _, target in select(flow, _DEFAULT_FALLBACK) if isinstance(target, str)]
    return named


def _named(located: LocatedStep) -> list[tuple[Path, str]]:
    named = []
    for field, pattern in _NEXT:
        if field in located.step:
            for path, step_id in select(located.step[field], pattern, (*located.path, field)):
                if isinstance(step_id, str):
                    named.append((path, step_id))
    return named


def _links(located: LocatedStep, scope: Scope, own: Mapping[Path, Scope]) -> list[Link]:
    links = [Link(path, step_id, scope) for path, step_id in _named(located)]
    if (following := scope.implied.get(located.id)) is not None:
        links.append(Link(located.path, following, scope))
    for branch_path, branch in branches_of(located):
        inner = own.get((*branch_path, "steps"))
        for path, step_id in start_fields(branch_path, branch):
            links.append(Link(path, step_id, inner or scope.home_of(step_id)))
    return links
