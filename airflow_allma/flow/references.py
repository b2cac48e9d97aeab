"""Checks that steps name steps that exist, and that every step can be reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, Scope, branches_of, select, start_fields

__all__ = ["START_POINTS", "UNREACHED", "check_references", "next_step_ids", "next_steps", "start_references"]

# Where a step names the steps that may follow it.
_NEXT: tuple[Pattern, ...] = (
    ("transitions", ANY, "nextStepInstanceId"),
    ("defaultNextStepInstanceId",),
    ("onError", "fallbackStepInstanceId"),
)
_DEFAULT_FALLBACK: Pattern = ("defaultStepConfig", "defaultErrorHandler", "fallbackStepInstanceId")
START_POINTS = frozenset({"SCHEDULE_START_POINT", "EMAIL_START_POINT"})
UNREACHED = "nothing leads to this step"
_MAX_NAMES = 8


def check_references(flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> Iterator[Diagnostic]:
    """Yield names of steps that do not exist (errors) and steps that nothing leads to (warnings)."""
    main = all_scopes[0]
    own = {scope.path: scope for scope in all_scopes}
    starts = list(start_references(flow, main))
    # A flow without steps is reported elsewhere.
    for path, step_id in starts if main.steps else ():
        yield from _check(path, step_id, main)
    for scope in all_scopes:
        for located in scope.steps.values():
            for path, step_id, target in next_steps(located, scope, own):
                yield from _check(path, step_id, target)
    # Without a start every step is unreached: one report is enough.
    if any(step_id in main.steps for _, step_id in main.starts):
        yield from _unreached(all_scopes, starts, own)


def start_references(flow: Mapping[str, Any], main: Scope) -> Iterator[tuple[Path, str]]:
    """Yield (where it is named, step id) of the first step and of the fallback of all steps."""
    yield from main.starts
    yield from ((path, name) for path, name in select(flow, _DEFAULT_FALLBACK) if isinstance(name, str))


def next_step_ids(located: LocatedStep, flow: Mapping[str, Any]) -> list[str]:
    """Return the steps that can follow a step, apart from those of a fork's branches."""
    named = [target for pattern in _NEXT for _, target in select(located.step, pattern)]
    if located.step.get("onError") is None:
        named += [target for _, target in select(flow, _DEFAULT_FALLBACK)]
    return [target for target in named if isinstance(target, str)]


def next_steps(
    located: LocatedStep, scope: Scope, own: Mapping[Path, Scope]
) -> Iterator[tuple[Path, str, Scope]]:
    """Yield (where it is named, step id, the scope that must have it) of all steps that may follow a step."""
    for pattern in _NEXT:
        for path, step_id in select(located.step, pattern, located.path):
            if isinstance(step_id, str):
                yield path, step_id, scope
    if (following := scope.implied.get(located.id)) is not None:
        yield located.path, following, scope
    for branch_path, branch in branches_of(located):
        inner = own.get((*branch_path, "steps"))
        for path, step_id in start_fields(branch_path, branch):
            yield path, step_id, inner or scope.home_of(step_id)


def _check(path: Path, step_id: str, scope: Scope) -> Iterator[Diagnostic]:
    if step_id in scope.steps:
        return
    if scope.around is not None and step_id in scope.root.steps:
        yield Diagnostic(
            path,
            f"{quoted(step_id)} is not a step of this branch; it is a step of the flow, and a branch with "
            "its own `steps` can only go to those; copy it there",
        )
        return
    if guess := nearest(step_id, scope.steps):
        fix = f"did you mean {quoted(guess)}?"
    else:
        names = [quoted(name) for name in scope.steps][:_MAX_NAMES]
        more = ", ..." if len(scope.steps) > _MAX_NAMES else ""
        fix = f"the steps are {', '.join(names)}{more}"
    yield Diagnostic(path, f"{quoted(step_id)} is not a step; {fix}")


def _unreached(
    all_scopes: Sequence[Scope], starts: Sequence[tuple[Path, str]], own: Mapping[Path, Scope]
) -> Iterator[Diagnostic]:
    main = all_scopes[0]
    waiting = [(main, step_id) for _, step_id in starts]
    waiting.extend((main, located.id) for located in main.steps.values() if located.kind in START_POINTS)
    reached: set[Path] = set()
    while waiting:
        scope, step_id = waiting.pop()
        located = scope.steps.get(step_id)
        if located is None or located.path in reached:
            continue
        reached.add(located.path)
        waiting.extend((target, name) for _, name, target in next_steps(located, scope, own))
    for scope in all_scopes:
        before: LocatedStep | None = None
        for located in scope.steps.values():
            if located.path not in reached:
                fix = _way_to(located, before if isinstance(located.path[-1], int) else None)
                yield Diagnostic(located.path, f"{UNREACHED}; {fix}", Severity.WARNING, at_key=True)
            before = located


def _way_to(located: LocatedStep, before: LocatedStep | None) -> str:
    """Return how to reach a step, in a list after the step ``before``."""
    if before is None:
        return (
            "name it in `defaultNextStepInstanceId` or `transitions` of a step or in a branch, or remove it"
        )
    return (
        f"set `defaultNextStepInstanceId` to {quoted(located.id)} in the step that comes before it, such as "
        f"{quoted(before.id)} (a list of steps has an order only if none of them names another), or remove it"
    )
