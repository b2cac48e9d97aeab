"""Waking parked tasks: the one place that does, and the rule when it is safe.

A task that parks tells the API server first and ends its process afterwards; then the executor reports
"success" to the scheduler. The scheduler's loop queues tasks, asks the executor, and compares its reports
with the states of the tasks, in this order. If the task is QUEUED again when the report of its first part is
read, the scheduler takes it for the report of the second part, and fails the task
(``process_executor_events`` in ``scheduler_job_runner.py``). So a task is woken only when the scheduler that
ran it has seen that report, as far as the database shows: it writes its heartbeat at the end of a loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

from airflow.configuration import conf
from airflow.jobs.job import Job, JobState
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.models.xcom import XComModel
from airflow.triggers.base import TriggerEvent
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_allma.common.wait_keys import WAKE_KEY
from airflow_allma.server.open_waits import PARKED, TaskKey

__all__ = ["PARKED_SECONDS", "Schedulers", "WakeReasons", "request_wake", "task_key", "wake_parked"]

PARKED_SECONDS: Final = 5.0
"""How long a task must have been parked by the heartbeat of the scheduler that ran it.

It covers what the worker does after it has parked the task (listeners, upload of the log), the rest of the
scheduler's loop, and differences between the clocks of machines. ``benchmarks/resume_race.py`` measures it.
"""

_SCHEDULER: Final = "SchedulerJob"


@dataclass(frozen=True, slots=True)
class Schedulers:
    """The schedulers' last heartbeats.

    Attributes:
        alive: by job id, those that run.
        now: the time at which they were read.
    """

    alive: Mapping[int, datetime]
    now: datetime

    @classmethod
    def read(cls, session: Session, now: datetime) -> Self:
        """Read the schedulers that run; one without a heartbeat for too long is dead, whatever its state."""
        seconds = conf.getint("scheduler", "scheduler_health_check_threshold", fallback=30)
        rows = session.execute(
            select(Job.id, Job.latest_heartbeat).where(
                Job.job_type == _SCHEDULER,
                Job.state == JobState.RUNNING,
                Job.latest_heartbeat > now - timedelta(seconds=seconds),
            )
        )
        return cls({job_id: beat for job_id, beat in rows if beat is not None}, now)

    def have_seen_parking(self, task: TaskInstance) -> bool:
        """Return whether no scheduler can still read the report that the task's process has ended.

        A dead scheduler reads nothing any more; then another one must have lived long enough to have taken
        over.
        """
        if task.updated_at is None:
            return True
        ready = task.updated_at + timedelta(seconds=PARKED_SECONDS)
        if ready > self.now:
            return False
        beat = self.alive.get(task.queued_by_job_id) if task.queued_by_job_id is not None else None
        beats = self.alive.values() if beat is None else (beat,)
        return any(beat >= ready for beat in beats)


@dataclass(slots=True)
class WakeReasons:
    """Why a task must be woken, kept as an XCom of the task until it is.

    Attributes:
        arrived: the tokens of keys for which an event was delivered.
        conflict: the tokens of keys for which another task waited before -> which one.
    """

    arrived: list[str] = field(default_factory=list)
    conflict: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Restore what ``to_json`` returned; without reasons if it is something else."""
        try:
            read = json.loads(value)
            return cls([str(token) for token in read["arrived"]], dict(read["conflict"]))
        except (TypeError, ValueError, KeyError, RecursionError):
            return cls()

    def to_json(self) -> str:
        """Return the XCom's value."""
        return json.dumps(self.payload())

    def payload(self) -> dict[str, Any]:
        """Return what the woken task gets as its event."""
        return {"arrived": self.arrived, "conflict": self.conflict}

    def add(self, other: WakeReasons) -> None:
        """Add reasons that are not among them yet."""
        self.arrived += [token for token in other.arrived if token not in self.arrived]
        self.conflict |= other.conflict


def request_wake(session: Session, task: TaskInstance, why: WakeReasons) -> None:
    """Note that a locked task must be woken; ``wake_parked`` does it, now or later."""
    row = _wake_row(session, task)
    reasons = WakeReasons() if row is None else WakeReasons.from_json(row.value)
    reasons.add(why)
    if row is not None:
        row.value = reasons.to_json()
        return
    key = task_key(task)
    session.add(
        XComModel(
            dag_run_id=session.scalar(
                select(DagRun.id).where(DagRun.dag_id == key.dag_id, DagRun.run_id == key.run_id)
            ),
            key=WAKE_KEY,
            value=reasons.to_json(),
            dag_id=key.dag_id,
            run_id=key.run_id,
            task_id=key.task_id,
            map_index=key.map_index,
        )
    )


def wake_parked(session: Session, task: TaskInstance, schedulers: Schedulers) -> bool:
    """Wake a locked task that is parked and must be woken, if that is safe now.

    Returns:
        whether the task was woken.
    """
    if task.state != PARKED or not schedulers.have_seen_parking(task):
        return False
    session.flush()
    row = _wake_row(session, task)
    if row is None:
        return False
    reasons = WakeReasons.from_json(row.value)
    session.delete(row)
    event = TriggerEvent(reasons.payload())  # type: ignore[no-untyped-call]
    handle_event_submit(event, task_instance=task, session=session)
    return True


def task_key(task: TaskInstance) -> TaskKey:
    """Return the key of a task instance."""
    return TaskKey(task.dag_id, task.run_id, task.task_id, task.map_index)


def _wake_row(session: Session, task: TaskInstance) -> XComModel | None:
    query = select(XComModel).where(task_key(task).where(XComModel), XComModel.key == WAKE_KEY)
    return session.scalar(query.execution_options(populate_existing=True))
