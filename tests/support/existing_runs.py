"""Runs that exist in the database of the Airflow in this process: looking at them, and running them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests.support.airflow import RunResult, _result


def runs_of(dag_id: str) -> dict[str, Mapping[str, Any]]:
    """Return the payloads of all runs of a Dag that a task has started, by run id, in their order."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_type == "operator_triggered")
        return {run.run_id: dict(run.conf) for run in session.scalars(found.order_by(DagRun.id))}


def set_dag(dag_id: str, **fields: Any) -> None:
    """Change fields of a Dag's row, such as ``is_paused``."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.get(DagModel, dag_id)
        for name, value in fields.items():
            setattr(row, name, value)


def set_run_state(dag_id: str, run_id: str, state: str, tasks: Mapping[str, str] | None = None) -> None:
    """Give a run a state, and some of its tasks."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one()
        run.state = state
        for instance in run.get_task_instances(session=session):
            if instance.task_id in (tasks or {}):
                instance.state = (tasks or {})[instance.task_id]


def run_existing(dag: Any, run_id: str, *, clear: bool = False) -> RunResult:
    """Run a run that exists, to its end.

    Args:
        dag: its Dag, which is in the database.
        run_id: the run.
        clear: whether to clear all of its tasks first, as a user can.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session
    from sqlalchemy import select

    def existing(*, session: Any, **_: Any) -> Any:
        query = select(DagRun).where(DagRun.dag_id == dag.dag_id, DagRun.run_id == run_id)
        run = session.scalars(query).one()
        run.dag = existing_dag(dag, session)
        run.set_state("running")
        run.start_date = run.start_date or run.run_after
        session.flush()
        return run

    if clear:
        with create_session() as session:
            query = select(DagRun).where(DagRun.dag_id == dag.dag_id, DagRun.run_id == run_id)
            run = session.scalars(query).one()
            clear_task_instances(run.get_task_instances(session=session), session)
    with mock.patch("airflow.models.dagrun.get_or_create_dagrun", existing):
        ended = dag.test()
    return _result(ended.dag_id, ended.run_id, str(ended.state))


def existing_dag(dag: Any, session: Any) -> Any:
    """Return a Dag as the scheduler sees it."""
    from airflow.models.serialized_dag import SerializedDagModel

    return SerializedDagModel.get_dag(dag.dag_id, session=session)


@contextmanager
def instead_of_triggers(end: Callable[[Any], None]) -> Iterator[list[Any]]:
    """End in this process what deferred tasks of `dag.test()` wait for, before their triggers run.

    Args:
        end: does it; gets the trigger.

    Yields:
        The triggers, in order.
    """
    from airflow.sdk.definitions import dag as dag_module

    real = dag_module._run_inline_trigger
    seen: list[Any] = []

    def run(trigger: Any, ti: Any) -> Any:
        seen.append(trigger)
        end(trigger)
        return real(trigger, ti)

    with mock.patch.object(dag_module, "_run_inline_trigger", run):
        yield seen
