"""Waiting tasks in the database of the test process's Airflow, written as the tasks themselves would."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from airflow_allma.common.wait_keys import WaitRow, event_key, wait_key, wait_token

_numbers = count()
LONG_AGO = timedelta(minutes=10)


@dataclass
class ParkedTask:
    """A task instance that a test wrote, and what became of it."""

    dag_id: str
    run_id: str
    task_id: str = "wait"
    map_index: int = -1

    @property
    def key(self) -> Any:
        """The task instance's key in the server's modules."""
        from airflow_allma.server.open_waits import TaskKey

        return TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index)

    def instance(self, session: Any) -> Any:
        """Return the task instance's row."""
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        return session.scalar(select(TaskInstance).where(self.key.where(TaskInstance)))

    @property
    def state(self) -> str:
        """The state in the database."""
        with _session() as session:
            return str(self.instance(session).state)

    @property
    def woken_with(self) -> Any:
        """The event with which the task was woken; KeyError if it was not."""
        from airflow.models.trigger import _decode_next_kwargs

        with _session() as session:
            return _decode_next_kwargs(self.instance(session).next_kwargs)["event"]

    def xcoms(self) -> dict[str, Any]:
        """Return the task's XComs."""
        from airflow.models.xcom import XComModel
        from sqlalchemy import select

        with _session() as session:
            rows = session.execute(
                select(XComModel.key, XComModel.value).where(self.key.where(XComModel))
            ).all()
        return {row.key: json.loads(row.value) for row in rows}

    def event(self, key: str) -> Any:
        """Return what was delivered for a key; None if nothing was."""
        from airflow.state import TaskScope, get_state_backend

        scope = TaskScope(self.dag_id, self.run_id, self.task_id, self.map_index)
        with _session() as session:
            value = get_state_backend().get(scope, event_key(wait_token(key)), session=session)
        return None if value is None else json.loads(value)

    def change(self, *, run_state: str | None = None, **values: Any) -> None:
        """Change columns of the task instance, and the state of its run."""
        with _session() as session:
            instance = self.instance(session)
            for name, value in values.items():
                setattr(instance, name, value)
            if run_state is not None:
                instance.dag_run.state = run_state

    def push(self, key: str, value: Any) -> None:
        """Push an XCom of the task."""
        from airflow.models.xcom import XComModel

        with _session() as session:
            XComModel.set(
                key,
                json.dumps(value),
                dag_id=self.dag_id,
                run_id=self.run_id,
                task_id=self.task_id,
                map_index=self.map_index,
                serialize=False,
                session=session,
            )

    def wait_for(
        self, key: str, *, since: float | None = None, until: float | None = None, **fields: Any
    ) -> None:
        """Push what says that the task waits for a key."""
        since = time.time() if since is None else since
        wait = WaitRow(key=key, step="s", since=since, until=until or since + 86400, **fields)
        self.push(wait_key(wait_token(key)), json.loads(wait.to_json()))


@dataclass
class ParkedTasks:
    """Writes waiting tasks."""

    job_id: int = 0
    tasks: list[ParkedTask] = field(default_factory=list)

    def scheduler(self, *, beat: timedelta = timedelta(0), state: str = "running") -> int:
        """Add a scheduler whose last heartbeat is so long ago; the next tasks are queued by it."""
        from airflow.jobs.job import Job

        with _session() as session:
            job = Job(job_type="SchedulerJob", state=state)
            job.latest_heartbeat = datetime.now(UTC) - beat
            session.add(job)
            session.flush()
            self.job_id = job.id
        return self.job_id

    def park(
        self,
        *keys: str,
        dag_id: str = "flow-a",
        parked: timedelta = LONG_AGO,
        until: float | None = None,
        state: str = "awaiting_input",
        map_index: int = -1,
        started_by: ParkedTask | None = None,
        **fields: Any,
    ) -> ParkedTask:
        """Write a task that has parked so long ago, and waits for some keys; another task started its run."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.providers.standard.operators.empty import EmptyOperator
        from airflow.sdk import DAG
        from sqlalchemy import update

        task = ParkedTask(dag_id, f"run-{next(_numbers)}", map_index=map_index)
        since = time.time() - parked.total_seconds()
        with _session() as session, DAG(dag_id, schedule=None):
            run = DagRun(dag_id, task.run_id, run_after=datetime.now(UTC), run_type="manual")
            run.state = "running"
            if started_by is not None:
                run.run_type, run.conf = "operator_triggered", _link(started_by)
            session.add(run)
            session.flush()
            instance = TaskInstance(EmptyOperator(task_id=task.task_id), None, task.run_id, state, map_index)
            instance.next_method = "resume"
            session.add(instance)
            session.flush()
            # A change of a mapped object would set the time of the change.
            session.execute(
                update(TaskInstance)
                .where(TaskInstance.id == instance.id)
                .values(updated_at=datetime.now(UTC) - parked, queued_by_job_id=self.job_id)
            )
        for key in keys:
            task.wait_for(key, since=since, until=until, **fields)
        self.tasks.append(task)
        return task


def _link(task: ParkedTask) -> dict[str, Any]:
    from airflow_allma.operators.run_link import RunLink

    link = RunLink("root", "parent", "s", 1, "ASYNC_SUBFLOW", task.dag_id, task.run_id, task.task_id)
    return link.in_conf({})


@contextmanager
def _session() -> Iterator[Any]:
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session


@contextmanager
def parked_tasks() -> Iterator[ParkedTasks]:
    """Provide an empty database with one scheduler that has just sent its heartbeat."""
    _empty()
    tasks = ParkedTasks()
    tasks.scheduler()
    try:
        yield tasks
    finally:
        _empty()


def _empty() -> None:
    from airflow.jobs.job import Job
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from airflow.models.xcom import XComModel
    from sqlalchemy import delete

    with _session() as session:
        for model in (TaskStateStoreModel, XComModel, TaskInstance, DagRun, Variable, Log, Job):
            session.execute(delete(model))
