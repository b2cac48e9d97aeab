"""The trace of what a task's steps did, as an XCom for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.engine.tracing import Trace

__all__ = ["push_trace"]


def push_trace(current: TaskContext, state: RunState) -> None:
    """Push the trace of the steps that have run in this task, if there are any.

    Args:
        current: this try.
        state: the run's state after the steps.
    """
    trace: Trace | None = state.trace
    if trace is None:
        return
    try:
        steps, omitted = trace.steps()
        value: dict[str, Any] = {"steps": steps, **({"omittedSteps": omitted} if omitted else {})}
        push(current.ti, Key.TRACE, value)
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises
        # A trace must not fail a step.
        LOG.warning("Pages do not show what the steps of this task did: %s", error)
