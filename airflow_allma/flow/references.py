"""Do the names of steps name steps, and is every step reached?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, Scope, branches_of, select, start_fields

__all__ = ["check_references"]

# Where a step names the steps that may come after it.
_NEXT: tuple[Pattern, ...] = (
    ("transitions", ANY, "nextStepInstanceId"),
    ("defaultNextStepInstanceId",),
    ("onError", "fallbackStepInstanceId"),
)
_DEFAULT_FALLBACK: Pattern = ("defaultStepConfig", "defaultErrorHandler", "fallbackStepInstanceId")
_START_POINTS = frozenset({"SCHEDULE_START_POINT", "EMAIL_START_POINT"})
_MOST_NAMES = 8


def check_references(flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> Iterator[Diagnostic]:
    """Names that name no step (errors) and steps that nothing leads to (warnings)."""
    main = all_scopes[0]
    own = {scope.path: scope for scope in all_scopes}
    starts = list(main.starts)
    starts.extend((path, text) for path, text in select(flow, _DEFAULT_FALLBACK) if isinstance(text, str))
    # A flow without steps is told so elsewhere.
    for path, step_id in starts if main.steps else ():
        yield from _check(path, step_id, main)
    for scope in all_scopes:
        for place in scope.steps.values():
            for path, step_id, target in _targets(place, scope, own):
                yield from _check(path, step_id, target)
    # Without a start everything is unreached: once said is enough.
    if any(step_id in main.steps for _, step_id in main.starts):
        yield from _unreached(all_scopes, starts, own)


def _targets(
    place: LocatedStep, scope: Scope, own: Mapping[Path, Scope]
) -> Iterator[tuple[Path, str, Scope]]:
    """(where it is named, step id, the scope in which it must be) of all steps that may follow a step."""
    for pattern in _NEXT:
        for path, step_id in select(place.step, pattern, place.path):
            if isinstance(step_id, str):
                yield path, step_id, scope
    for branch_path, branch in branches_of(place):
        inner = own.get((*branch_path, "steps"))
        for path, step_id in start_fields(branch_path, branch):
            yield path, step_id, inner or scope.home_of(step_id)


def _check(path: Path, step_id: str, scope: Scope) -> Iterator[Diagnostic]:
    if step_id in scope.steps:
        return
    if scope.around is not None and step_id in scope.root.steps:
        mend = "it is a step of the flow, and a branch with own `steps` can only go to those; copy it there"
    elif guess := nearest(step_id, scope.steps):
        mend = f"did you mean {quoted(guess)}?"
    else:
        names = [quoted(name) for name in scope.steps][:_MOST_NAMES]
        more = ", ..." if len(scope.steps) > _MOST_NAMES else ""
        mend = f"the steps are {', '.join(names)}{more}"
    yield Diagnostic(path, f"{quoted(step_id)} names no step; {mend}")


def _unreached(
    all_scopes: Sequence[Scope], starts: Sequence[tuple[Path, str]], own: Mapping[Path, Scope]
) -> Iterator[Diagnostic]:
    main = all_scopes[0]
    waiting = [(main, step_id) for _, step_id in starts]
    waiting.extend((main, place.id) for place in main.steps.values() if place.kind in _START_POINTS)
    reached: set[Path] = set()
    while waiting:
        scope, step_id = waiting.pop()
        place = scope.steps.get(step_id)
        if place is None or place.path in reached:
            continue
        reached.add(place.path)
        waiting.extend((target, name) for _, name, target in _targets(place, scope, own))
    for scope in all_scopes:
        for place in scope.steps.values():
            if place.path not in reached:
                yield Diagnostic(
                    place.path,
                    "nothing leads to this step; name it in a transition or a branch, or remove it",
                    Severity.WARNING,
                    at_key=True,
                )
