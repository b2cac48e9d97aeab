"""Checks that steps name steps that exist, and that every step can be reached."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.step_links import StepLinks
from airflow_allma.flow.tree_walk import LocatedStep, Scope

__all__ = ["UNREACHED", "check_references"]

UNREACHED = "nothing leads to this step"
_MAX_NAMES = 8


def check_references(links: StepLinks) -> Iterator[Diagnostic]:
    """Yield names of steps that do not exist (errors) and steps that nothing leads to (warnings)."""
    main = links.main
    # A flow without steps is reported elsewhere.
    for path, step_id in links.starts if main.steps else ():
        yield from _check(path, step_id, main)
    for links_of_step in links.by_step.values():
        for path, step_id, target in links_of_step:
            if step_id not in target.steps:
                yield from _check(path, step_id, target)
    # Without a start every step is unreached: one report is enough.
    if any(step_id in main.steps for _, step_id in main.starts):
        yield from _unreached(links)


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


def _unreached(links: StepLinks) -> Iterator[Diagnostic]:
    waiting = links.first_steps
    reached: set[Path] = set()
    while waiting:
        path = waiting.pop().path
        if path not in reached:
            reached.add(path)
            waiting += [scope.steps[name] for _, name, scope in links.by_step[path] if name in scope.steps]
    if len(reached) == len(links.by_step):
        return
    for scope in links.all_scopes:
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
