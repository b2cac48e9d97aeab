"""The triggers for which tasks defer themselves: one for each reason to wait that is not an event."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow.sdk.exceptions import TaskDeferred

from airflow_allma.operators.task_context import LOG, TaskContext

if TYPE_CHECKING:
    from airflow_allma.engine.suspension import Wait

__all__ = ["deferral"]

_GRACE_SECONDS: Final = 600.0
"""How long after its deadline a poll ends even if no triggerer runs."""


def deferral(current: TaskContext, wait: Wait, method: str) -> TaskDeferred:
    """Return what a task raises to defer itself until a poll or a run has ended.

    Args:
        current: this try.
        wait: what the run waits for.
        method: the task's method that Airflow calls with what the trigger yields.
    """
    from airflow_allma.engine.suspension import SuspendReason

    if wait.reason is SuspendReason.POLL:
        return _until_polled(current, wait, method)
    return _until_ended(wait, method)


def _until_polled(current: TaskContext, wait: Wait, method: str) -> TaskDeferred:
    from airflow_allma.operators.poll_trigger import PollTrigger

    now = current.services.now()
    LOG.info("Deferred until %s is over; the next call is due in %.0f s", wait.step_id, wait.until - now)
    left = max(0.0, wait.details["progress"]["deadline"] - now) + _GRACE_SECONDS
    return TaskDeferred(
        trigger=PollTrigger(wait.step_id, wait.details), method_name=method, timeout=timedelta(seconds=left)
    )


def _until_ended(wait: Wait, method: str) -> TaskDeferred:
    from airflow_allma.operators.run_trigger import RunTrigger

    dag_id = str(wait.details["dagId"])
    LOG.info("Deferred until run %s of Dag %s has ended", wait.key, dag_id)
    return TaskDeferred(trigger=RunTrigger(dag_id, wait.key), method_name=method)
