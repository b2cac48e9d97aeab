"""The waits of tasks, as Airflow's database has them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import DagRunState, State, TaskInstanceState
from sqlalchemy import Select, and_, select
from sqlalchemy.orm import Session

from airflow_allma.common.batching import batched
from airflow_allma.common.wait_keys import WaitRow, wait_key

__all__ = [
    "PARKED",
    "TaskKey",
    "TaskWait",
    "dags_with_waits",
    "find_waits",
    "list_waits",
    "lock_task",
    "unchanged_row",
]

PARKED: Final = TaskInstanceState.AWAITING_INPUT

_KEYS_AT_ONCE: Final = 500
_UNFINISHED_RUN: Final = (DagRunState.QUEUED, DagRunState.RUNNING)


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """Identifies a task instance through all of its tries, whose ids differ."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    def where(self, model: Any) -> Any:
        """Return the condition that selects the rows of this task instance."""
        return and_(
            model.dag_id == self.dag_id,
            model.run_id == self.run_id,
            model.task_id == self.task_id,
            model.map_index == self.map_index,
        )


@dataclass(frozen=True, slots=True)
class TaskWait:
    """A wait of a task instance, and what became of the task.

    Attributes:
        token: the name of the correlation key in keys of XComs.
        task: the task instance.
        wait: what the task wrote, and what was delivered since.
        value: ``wait`` as the database has it.
        is_parked: whether the task waits now.
        is_unfinished: whether the task and its run can still take the event.
    """

    token: str
    task: TaskKey
    wait: WaitRow
    value: str
    is_parked: bool
    is_unfinished: bool

    @property
    def is_open(self) -> bool:
        """Whether an event is awaited."""
        return self.is_unfinished and self.wait.delivered is None and not self.is_late

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed. The task may not know yet, or wait for something else."""
        return self.wait.until < time.time()

    @property
    def order(self) -> tuple[float, TaskKey]:
        """The sort key of waits for the same event: the first one gets it."""
        return self.wait.since, self.task


def find_waits(session: Session, tokens: Iterable[str]) -> list[TaskWait]:
    """Return all waits for some keys, also those of tasks that have ended."""
    found: list[TaskWait] = []
    for batch in batched(tokens, _KEYS_AT_ONCE):
        keys = [wait_key(token) for token in batch]
        found += _read(session, _waits().where(XComModel.key.in_(keys)))
    return found


def list_waits(
    session: Session, dag_ids: Sequence[str], *, at_most: int, run_id: str | None = None
) -> list[TaskWait]:
    """Return the open waits of some Dags, or of one run of them, the longest ones first."""
    found: list[TaskWait] = []
    for batch in batched(dag_ids, _KEYS_AT_ONCE):
        query = _open_waits().where(XComModel.dag_id.in_(batch)).order_by(XComModel.timestamp)
        if run_id is not None:
            query = query.where(XComModel.run_id == run_id)
        found += _read(session, query.limit(at_most))
    return sorted((wait for wait in found if wait.is_open), key=lambda wait: wait.order)[:at_most]


def dags_with_waits(session: Session) -> list[str]:
    """Return the ids of the Dags in which something waits."""
    ids = _open_waits().with_only_columns(XComModel.dag_id).distinct()
    return sorted(session.scalars(ids))


def lock_task(session: Session, task: TaskKey, *, skip_locked: bool = False) -> TaskInstance | None:
    """Return a task instance, locked until the transaction ends.

    Returns:
        None: it does not exist, or with ``skip_locked``, somebody else has locked it.
    """
    if session.get_bind().dialect.name == "sqlite":
        # Has no row locks. A write begins the transaction that others wait for.
        own = XComModel.__table__.update().where(task.where(XComModel.__table__.c))
        session.execute(own.values(map_index=XComModel.__table__.c.map_index))
    query = select(TaskInstance).where(task.where(TaskInstance))
    locked = query.with_for_update(of=TaskInstance, skip_locked=skip_locked)
    return session.scalar(locked.execution_options(populate_existing=True))


def unchanged_row(session: Session, wait: TaskWait) -> XComModel | None:
    """Return a wait's XCom; None if it was removed or changed since it was read. Lock its task before."""
    row = session.scalar(
        select(XComModel)
        .where(wait.task.where(XComModel), XComModel.key == wait_key(wait.token))
        .execution_options(populate_existing=True)
    )
    return row if row is not None and row.value == wait.value else None


def _waits() -> Select[Any]:
    same_task = and_(
        TaskInstance.dag_id == XComModel.dag_id,
        TaskInstance.run_id == XComModel.run_id,
        TaskInstance.task_id == XComModel.task_id,
        TaskInstance.map_index == XComModel.map_index,
    )
    columns = (
        XComModel.key,
        XComModel.value,
        XComModel.dag_id,
        XComModel.run_id,
        XComModel.task_id,
        XComModel.map_index,
        TaskInstance.state.label("task_state"),
        DagRun.state.label("run_state"),
    )
    return select(*columns).join(TaskInstance, same_task).join(DagRun, DagRun.id == XComModel.dag_run_id)


def _open_waits() -> Select[Any]:
    is_wait = XComModel.key.startswith(wait_key(""), autoescape=True)
    # `!=` is never true for a task without a state.
    is_unfinished = TaskInstance.state.is_(None) | TaskInstance.state.not_in(State.finished)
    return _waits().where(is_wait, is_unfinished, DagRun.state.in_(_UNFINISHED_RUN))


def _read(session: Session, query: Select[Any]) -> Iterator[TaskWait]:
    for row in session.execute(query):
        try:
            wait = WaitRow.from_json(row.value)
        except ValueError:
            # Pushed by a task that is none of ours, or stored elsewhere by an XCom backend.
            continue
        yield TaskWait(
            row.key.removeprefix(wait_key("")),
            TaskKey(row.dag_id, row.run_id, row.task_id, row.map_index),
            wait,
            row.value,
            row.task_state == PARKED,
            row.task_state not in State.finished and row.run_state in _UNFINISHED_RUN,
        )
