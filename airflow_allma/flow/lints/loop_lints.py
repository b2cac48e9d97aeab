"""Loops that the default limit of transitions ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_allma.flow.diagnostics import Path, quoted
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning
from airflow_allma.flow.lints.step_order import StepOrder
from airflow_allma.flow.tree_walk import LocatedStep

__all__ = ["loops_with_default_limit", "loops_without_exit"]

_MAX_NAMES: Final = 4


@lint()
def loops_with_default_limit(view: FlowView) -> Warnings:
    """Yield loops in which a transition has no limit of its own, one warning for each loop."""
    for loop in _loops(view):
        inside = {step.path for step in loop}
        if not _has_exit(view.order, loop):
            continue
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


@lint()
def loops_without_exit(view: FlowView) -> Warnings:
    """Yield loops that no step leaves: they end with an error, at the limit of a transition or of the run."""
    for loop in _loops(view):
        if not _has_exit(view.order, loop):
            steps = ", ".join(quoted(step.id) for step in loop[:_MAX_NAMES])
            more = ", ..." if len(loop) > _MAX_NAMES else ""
            yield warning(
                (*loop[-1].path, "defaultNextStepInstanceId"),
                f"this loop never ends, because no step of it ({steps}{more}) leads out of it; add a "
                "transition with a condition to a step after the loop",
            )


def _loops(view: FlowView) -> Sequence[tuple[LocatedStep, ...]]:
    return view.order.loops if view.links.may_loop else ()


def _has_exit(order: StepOrder, loop: Sequence[LocatedStep]) -> bool:
    inside = {step.path for step in loop}
    for step in loop:
        # Without a default the run ends here, if no transition's condition is true.
        if not step.step.get("defaultNextStepInstanceId"):
            return True
        for edge in order.edges[step.path]:
            # A loop through a branch is a fork inside of itself, which is checked elsewhere.
            if edge.is_branch == (edge.target.path in inside):
                return True
    return False
