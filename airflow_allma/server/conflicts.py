"""Two waits for one key: the later one fails at once, since an event can resume only one of them."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import wait_key
from airflow_allma.server.open_waits import PARKED, TaskKey, TaskWait, find_waits, lock_task, unchanged_row
from airflow_allma.server.waking import WakeReasons, request_wake

__all__ = ["refuse_second_waits"]


def refuse_second_waits(session: Session, since: datetime | None) -> int:
    """Have tasks woken that wait for a key for which another task waits already.

    Their rows are removed: they do not wait any more, whatever becomes of the rest of the task.

    Args:
        session: committed for each task.
        since: only tasks that parked since then are looked at; None for all.

    Returns:
        how many waits were refused.
    """
    refused = 0
    for wait, first in _later_waits(session, since):
        task = lock_task(session, wait.task)
        row = unchanged_row(session, wait)
        if task is not None and row is not None:
            session.delete(row)
            where = f"run {first.run_id} of {first.dag_id}, task {first.task_id}"
            request_wake(session, task, WakeReasons(conflict={wait.token: where}))
            refused += 1
        session.commit()
    return refused


def _later_waits(session: Session, since: datetime | None) -> list[tuple[TaskWait, TaskKey]]:
    """Return waits, each with the task that waited for the same key before."""
    by_token: dict[str, list[TaskWait]] = defaultdict(list)
    for wait in find_waits(session, _tokens_of_parked(session, since)):
        if wait.is_open:
            by_token[wait.token].append(wait)
    session.commit()
    several = (sorted(waits, key=lambda wait: wait.order) for waits in by_token.values())
    # A task that has not parked yet is looked at when it has.
    return [(later, waits[0].task) for waits in several for later in waits[1:] if later.is_parked]


def _tokens_of_parked(session: Session, since: datetime | None) -> set[str]:
    query = (
        select(XComModel.key)
        .join(
            TaskInstance,
            (TaskInstance.dag_id == XComModel.dag_id)
            & (TaskInstance.run_id == XComModel.run_id)
            & (TaskInstance.task_id == XComModel.task_id)
            & (TaskInstance.map_index == XComModel.map_index),
        )
        .where(TaskInstance.state == PARKED, XComModel.key.startswith(wait_key(""), autoescape=True))
    )
    if since is not None:
        query = query.where(TaskInstance.updated_at >= since)
    return {key.removeprefix(wait_key("")) for key in session.scalars(query)}
