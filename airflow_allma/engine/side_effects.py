"""The steps that do not run again by themselves after they were lost."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_allma.engine.flow_library import FlowLibrary
from airflow_allma.engine.program import CompiledStep, Program
from airflow_allma.engine.steps.sub_flow import RunSubFlow

__all__ = ["unrepeatable_steps"]


def unrepeatable_steps(
    program: Program, steps: Iterable[str], flows: FlowLibrary | None = None
) -> tuple[str, ...]:
    """Return the ids of steps that have side effects and no ``onError.retries`` of their own.

    Steps in the branches of forks among them are included, and so are those of sub-flows: with retries of the
    step that runs a sub-flow, all of it can be repeated.

    Args:
        program: the steps.
        steps: ids of the steps to look at.
        flows: the flows that the steps can run.
    """
    found: dict[str, None] = {}
    seen: set[int] = set()
    waiting = [program.steps[step_id] for step_id in steps]
    while waiting:
        step = waiting.pop(0)
        if id(step) in seen:
            continue
        seen.add(id(step))
        if step.handler.has_side_effects and not _has_retries(step):
            found[step.id] = None
        if isinstance(step.handler, RunSubFlow) and not _has_retries(step):
            if not step.handler.is_fixed:
                # It can be any flow.
                found[step.id] = None
            elif inner := step.handler.known_program(flows):
                waiting += [inner.steps[step_id] for step_id in sorted(inner.reachable_from(inner.start))]
        for branch in step.fork.branches if step.fork else ():
            waiting += [branch.program.steps[step_id] for step_id in sorted(branch.reachable)]
    return tuple(found)


def _has_retries(step: CompiledStep) -> bool:
    retries = step.model.on_error.retries if step.model.on_error else None
    return retries is not None and retries.count > 0
