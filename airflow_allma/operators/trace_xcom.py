"""The trace of what a task's steps did, as an XCom for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, push_or_warn

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.engine.tracing import Trace

__all__ = ["push_trace", "trace_of"]

_NOT_SHOWN: Final = "Pages do not show what the steps of this task did: %s"


def trace_of(state: RunState) -> dict[str, Any] | None:
    """Return the trace of the steps that have run in this task, as JSON; None if they are not traced."""
    trace: Trace | None = state.trace
    if trace is None:
        return None
    try:
        steps, omitted = trace.steps()
    except Exception as error:  # noqa: BLE001 - whatever the data of a flow provokes
        # A trace must not fail a step.
        LOG.warning(_NOT_SHOWN, error)
        return None
    return {"steps": steps, **({"omittedSteps": omitted} if omitted else {})}


def push_trace(current: TaskContext, state: RunState) -> None:
    """Push the trace of the steps that have run in this task, if there is one.

    Args:
        current: this try.
        state: the run's state after the steps.
    """
    trace = trace_of(state)
    if trace is not None:
        push_or_warn(current.ti, Key.TRACE, trace, LOG, _NOT_SHOWN)
