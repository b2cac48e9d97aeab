"""Where a step cannot wait for a run of its own: in tasks of several steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity
from airflow_allma.flow.lints.step_order import StepOrder
from airflow_allma.flow.step_links import StepLinks
from airflow_allma.flow.tree_walk import LocatedStep, branches_of

__all__ = ["check_own_runs"]

_TYPES: Final = frozenset({"START_SUB_FLOW", "START_FLOW_EXECUTION"})
_REMOVE: Final = "remove `ownRun`: the other flow then runs in this step's task"
_IN_LOOP: Final = f"the steps of a loop run in one task, which cannot wait for a run of its own; {_REMOVE}"
_NESTED: Final = (
    "a fork inside of a branch or a loop runs in one task, which cannot wait for a run of its own; " + _REMOVE
)
_WHOLE: Final = (
    "the branch runs as one task, because of {}, and that task cannot wait for a run of its own; " + _REMOVE
)
_ASYNC: Final = "the step does not wait for the other flow, which has its own run anyway; remove `ownRun`"


def check_own_runs(flow: Mapping[str, Any], links: StepLinks) -> Iterator[Diagnostic]:
    """Yield the steps and branches with ``airflow.ownRun`` that are part of a task of several steps."""
    steps = [step for scope in links.all_scopes for step in scope.steps.values()]
    if not any(_has_own_run(step.step) for step in steps) and not any(
        _has_own_run(branch) for step in steps for _, branch in branches_of(step)
    ):
        return
    yield from _OwnRuns(flow, StepOrder(links)).problems()


class _OwnRuns:
    def __init__(self, flow: Mapping[str, Any], order: StepOrder) -> None:
        options = flow.get("airflow")
        self._granularity = options.get("branchGranularity") if isinstance(options, dict) else None
        self._order = order
        self._main = order.reached_from(order.first_steps, into_branches=False)
        self._in_loop = {step.path for loop in order.loops for step in loop}

    def problems(self) -> Iterator[Diagnostic]:
        seen: dict[Path, str] = {}
        for step in self._order.steps:
            if _has_own_run(step.step) and step.kind in _TYPES:
                if not _waits(step):
                    seen[step.path] = _ASYNC
                elif step.path in self._in_loop:
                    seen[step.path] = _IN_LOOP
            if step.kind != "PARALLEL_FORK_MANAGER":
                continue
            for path, branch in branches_of(step):
                for inner, reason in self._in_branch(step, path, branch):
                    seen.setdefault(inner, reason)
        for path, reason in seen.items():
            severity = Severity.WARNING if reason is _ASYNC else Severity.ERROR
            yield Diagnostic((*path, "airflow", "ownRun"), reason, severity)

    def _in_branch(
        self, fork: LocatedStep, path: Path, branch: Mapping[str, Any]
    ) -> Iterator[tuple[Path, str]]:
        """Yield the sub-flows of a branch that cannot have runs of their own, and why."""
        first = [
            edge.target
            for edge in self._order.edges[fork.path]
            if edge.is_branch and edge.path[: len(path)] == path
        ]
        inside = self._order.reached_from(first, into_branches=False)
        is_nested = fork.path not in self._main or fork.path in self._in_loop
        reason = _NESTED if is_nested else self._whole(fork, len(inside))
        if reason is None:
            return
        if is_nested and branch.get("stepType") == "START_SUB_FLOW" and _has_own_run(branch):
            yield path, reason
        for step in self._order.steps:
            if step.path in inside and step.kind in _TYPES and _has_own_run(step.step) and _waits(step):
                yield step.path, reason

    def _whole(self, fork: LocatedStep, count: int) -> str | None:
        """Return why a branch of several steps is one task; None if it is not."""
        config = fork.step.get("aggregationConfig")
        if count <= 1:
            return None
        if self._granularity == "branch":
            return _WHOLE.format("airflow.branchGranularity")
        if isinstance(config, dict) and config.get("maxConcurrency"):
            return _WHOLE.format("the fork's maxConcurrency")
        return None


def _has_own_run(step: Mapping[str, Any]) -> bool:
    options = step.get("airflow")
    return isinstance(options, dict) and options.get("ownRun") is True


def _waits(step: LocatedStep) -> bool:
    """Return whether the step waits for the flow that it starts."""
    if step.kind == "START_SUB_FLOW":
        return step.step.get("subFlowExecutionMode") != "ASYNC"
    config = step.step.get("customConfig")
    return isinstance(config, dict) and config.get("sync") is True
