"""The SCHEDULE_START_POINT steps of a flow: their schedules, and which of them fired a run.

All of them make one schedule. Airflow keeps no two runs of a Dag with one logical date, so each start point
fires as many microseconds late as there are start points before it in the flow. The logical date thus tells
which one fired, whoever created the run; the id of a scheduled run names it, whatever becomes of the flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow, ScheduleStartPointStep
from airflow_allma.flow.ids import safe_id
from airflow_allma.timetables.next_run import Schedule

__all__ = [
    "Shifted",
    "StartPoint",
    "fired_start_point",
    "rendered_expression",
    "run_id_ending",
    "start_points_of",
]

_MICROSECOND: Final = timedelta(microseconds=1)
_BETWEEN: Final = "__"
_LONGEST_NAME: Final = 150
"""Of the 250 characters that a run id may have."""


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A start point, as the scheduler knows it, which has no flow.

    Attributes:
        step_id: the step.
        place: how many start points stand before it in the flow; so many microseconds late it fires.
        expression: ``cron(...)`` or ``rate(...)``.
        timezone: IANA name of the zone where the hours of ``cron(...)`` are told.
    """

    step_id: str
    place: int
    expression: str
    timezone: str


def start_points_of(flow: Flow) -> tuple[StartPoint, ...]:
    """The start points that are enabled, in the flow's order.

    Raises:
        ExpressionEvaluationError: an expression is a template that cannot be rendered.
    """
    # Those that do not fire count as well: the places of others stay as they are when one is disabled.
    return tuple(
        StartPoint(
            step.step_instance_id,
            place,
            rendered_expression(step.schedule_expression, flow.flow_variables).strip(),
            step.timezone,
        )
        for place, step in enumerate(flow.schedule_start_points)
        if step.enabled
    )


def rendered_expression(text: str, flow_variables: Mapping[str, Any]) -> str:
    """A start point's expression, which may be a template over the flow's variables.

    Raises:
        ExpressionSyntaxError: the template cannot be read.
        ExpressionEvaluationError: it cannot be rendered.
    """
    if "{{" not in text:
        return text
    from airflow_allma.expressions import compile_template

    return compile_template(text).render({"flow_variables": flow_variables})


def run_id_ending(step_id: str) -> str:
    """What comes after the time in the id of a run that a start point fires."""
    return _BETWEEN + safe_id(step_id, _LONGEST_NAME)


def fired_start_point(
    flow: Flow, *, run_id: str, run_type: str, logical_date: datetime | None
) -> ScheduleStartPointStep | None:
    """The start point that fired a run, be it enabled still or not.

    Args:
        flow: the flow.
        run_id: the run's id; that of a scheduled run names the start point.
        run_type: as Airflow says it.
        logical_date: the microseconds tell the start point of a run that a backfill created.

    Returns:
        The step; None: the run was started otherwise.

    Raises:
        PermanentStepError: a start point fired the run that is not in the flow any more.
    """
    known = flow.schedule_start_points
    kind, *rest = run_id.split(_BETWEEN, 2)
    if kind == "scheduled" and len(rest) == 2:
        found = (step for step in known if run_id_ending(step.step_instance_id) == _BETWEEN + rest[1])
        step = next(found, None)
        if step is None:
            raise PermanentStepError(
                f"The start point {rest[1]} fired this run, and the flow has no such "
                "SCHEDULE_START_POINT any more. Put it back (`enabled: false` keeps it from firing), or "
                "start a new run."
            )
        return step
    if run_type == "backfill" and known and logical_date is not None:
        place = logical_date.microsecond
        if place >= len(known):
            raise PermanentStepError(
                f"The start point at place {place + 1} fired this run, and the flow has only {len(known)} "
                "now. Start a new run."
            )
        return known[place]
    return None


@dataclass(frozen=True, slots=True)
class Shifted:
    """A schedule of whole seconds that fires some microseconds late.

    Attributes:
        schedule: when it fires, but for that.
        place: how many microseconds.
    """

    schedule: Schedule
    place: int

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time that is later than a moment, in UTC; None: there is none."""
        found = self.schedule.next_after(moment - self.place * _MICROSECOND)
        return None if found is None else found + self.place * _MICROSECOND

    def latest_until(self, moment: datetime) -> datetime | None:
        """The last time that is not later than a moment, in UTC; None: there is none."""
        found = self.schedule.latest_until(moment - self.place * _MICROSECOND)
        return None if found is None else found + self.place * _MICROSECOND
