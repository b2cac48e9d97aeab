"""The step and the data with which a Dag run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.event_payload import asset_events
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.timetables import fired_start_point

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.flow import ScheduleStartPointStep

__all__ = ["entry_step", "start_state"]


def start_state(current: TaskContext) -> RunState:
    """Return the state in which the flow begins.

    Raises:
        PermanentStepError: the payload is not an object, or the start point that fired no longer exists.
        ExpressionEvaluationError: the start point's ``payloadTemplate`` cannot be rendered.
    """
    if not current.settings.results_location:
        LOG.info(
            "No [allma] offload_location is set: data of any size passes through Airflow's database, and a "
            "chunk that runs again repeats all of its items"
        )
    payload = current.dag_run.conf
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise PermanentStepError(
            f"The payload (conf) of a run must be a JSON object, not {type(payload).__name__}."
        )
    return current.program.start_state(
        payload, current.info.flow_execution_id, _start_point(current), asset_events(current.dag_run)
    )


def entry_step(current: TaskContext) -> str:
    """Return the step at which the flow begins.

    Raises:
        PermanentStepError: the start point that fired no longer exists.
    """
    return current.program.entry(_start_point(current))


def _start_point(current: TaskContext) -> ScheduleStartPointStep | None:
    """Return the SCHEDULE_START_POINT that triggered the run, if one did."""
    return fired_start_point(
        current.flow,
        run_id=current.ti.run_id,
        run_type=current.dag_run.run_type,
        logical_date=current.dag_run.logical_date,
    )
