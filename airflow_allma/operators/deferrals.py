"""The triggers for which tasks defer themselves: one for each reason to wait that is not an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import TaskDeferred

from airflow_allma.operators.task_context import TaskContext

if TYPE_CHECKING:
    from airflow_allma.engine.suspension import Wait

__all__ = ["deferral"]


def deferral(current: TaskContext, wait: Wait, method: str) -> TaskDeferred:
    """Return what a task raises to defer itself until a poll or a run has ended.

    Args:
        current: this try.
        wait: what the run waits for.
        method: the task's method that Airflow calls with what the trigger yields.
    """
    raise NotImplementedError(f"Nothing defers a task for {wait.reason} yet.")
