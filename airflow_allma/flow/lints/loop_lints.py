"""Loops that the default limit of transitions ends."""

from __future__ import annotations

from typing import Final

from airflow_allma.flow.diagnostics import Path, quoted
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning

__all__ = ["loops_with_default_limit"]

_MAX_NAMES: Final = 4


@lint()
def loops_with_default_limit(view: FlowView) -> Warnings:
    """Yield loops in which a transition has no limit of its own, one warning for each loop."""
    for loop in view.order.loops if view.links.may_loop else ():
        inside = {step.path for step in loop}
        unlimited: list[tuple[Path, str]] = []
        for step in loop:
            for field, path, target in view.order.edges[step.path]:
                if target.path not in inside:
                    continue
                if field == "defaultNextStepInstanceId" and "defaultNextMaxTransitions" not in step.step:
                    unlimited.append((path, f"{step.id}.defaultNextMaxTransitions"))
                elif field == "transitions" and "maxTransitions" not in step.step[field][path[-2]]:
                    unlimited.append((path, f"{step.id}.transitions[{path[-2]}].maxTransitions"))
        if unlimited:
            limits = ", ".join(quoted(limit) for _, limit in unlimited[:_MAX_NAMES])
            more = ", ..." if len(unlimited) > _MAX_NAMES else ""
            yield warning(
                unlimited[0][0],
                "this transition is part of a loop, and without a limit of its own it is an error to take it "
                f"a sixth time; set {limits}{more} (0: no limit)",
            )
