"""The SCHEDULE_START_POINT steps of a flow: their schedules, and which of them fired a run.

Together they form one schedule. Airflow does not allow two runs of a Dag with the same logical date, so each
start point fires as many microseconds late as there are start points before it in the flow. The logical date
therefore identifies the start point, whoever created the run. The id of a scheduled run names it, even if the
flow changes later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import EmailStartPointStep, Flow, ScheduleStartPointStep
from airflow_allma.flow.ids import safe_id
from airflow_allma.timetables.next_run import Schedule

__all__ = [
    "MAIL_RUN",
    "DelayedSchedule",
    "StartPoint",
    "StartPointStep",
    "fired_start_point",
    "render_expression",
    "run_id_suffix",
    "start_points_of",
]

StartPointStep = ScheduleStartPointStep | EmailStartPointStep
"""A step that starts runs."""

MAIL_RUN: Final = "mail"
"""How the ids of runs begin that e-mails start; the id of the e-mail and ``run_id_suffix`` follow."""

_GONE: Final = {
    "scheduled": (
        "The start point {} fired this run, but the flow no longer has this SCHEDULE_START_POINT. Add it "
        "again (`enabled: false` keeps it from firing), or start a new run."
    ),
    MAIL_RUN: (
        "An e-mail started this run at {}, but the flow no longer has this EMAIL_START_POINT. Add it again, "
        "or start a new run."
    ),
}
_MICROSECOND: Final = timedelta(microseconds=1)
_SEPARATOR: Final = "__"
_MAX_NAME_LENGTH: Final = 150
"""In characters; a run id can have 250 in total."""


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A start point as the scheduler knows it, without the flow.

    Attributes:
        step_id: the step.
        index: the number of start points before it in the flow, and of microseconds that it fires late.
        expression: ``cron(...)`` or ``rate(...)``.
        timezone: the IANA name of the time zone of the hours in ``cron(...)``.
    """

    step_id: str
    index: int
    expression: str
    timezone: str


def start_points_of(flow: Flow) -> tuple[StartPoint, ...]:
    """Return the enabled start points, in the flow's order.

    Raises:
        ExpressionEvaluationError: an expression is a template that cannot be rendered.
    """
    # Disabled start points count too: disabling one does not change the index of any other.
    return tuple(
        StartPoint(
            step.step_instance_id,
            index,
            render_expression(step.schedule_expression, flow.flow_variables).strip(),
            step.timezone,
        )
        for index, step in enumerate(flow.schedule_start_points)
        if step.enabled
    )


def render_expression(expression: str, flow_variables: Mapping[str, Any]) -> str:
    """Return a start point's expression, which can be a template over the flow's variables.

    Raises:
        ExpressionSyntaxError: the template is not valid.
        ExpressionEvaluationError: it cannot be rendered.
    """
    if "{{" not in expression:
        return expression
    from airflow_allma.expressions import compile_template

    return compile_template(expression).render({"flow_variables": flow_variables})


def run_id_suffix(step_id: str) -> str:
    """Return what follows the time in the id of a run that a start point fires."""
    return _SEPARATOR + safe_id(step_id, _MAX_NAME_LENGTH)


def fired_start_point(
    flow: Flow, *, run_id: str, run_type: str, logical_date: datetime | None
) -> StartPointStep | None:
    """Return the start point that fired a run, whether it is still enabled or not.

    Args:
        flow: the flow.
        run_id: the run's id; that of a scheduled run names the start point.
        run_type: Airflow's run type.
        logical_date: its microseconds identify the start point of a run that a backfill created.

    Returns:
        The step, or None if the run was started in another way.

    Raises:
        PermanentStepError: the flow does not have the start point that fired the run any more.
    """
    start_points = flow.schedule_start_points
    kind, *rest = run_id.split(_SEPARATOR, 2)
    if kind in {"scheduled", MAIL_RUN} and len(rest) == 2:
        points: Sequence[StartPointStep] = flow.mail_start_points if kind == MAIL_RUN else start_points
        matches = (step for step in points if run_id_suffix(step.step_instance_id) == _SEPARATOR + rest[1])
        step = next(matches, None)
        if step is None:
            raise PermanentStepError(_GONE[kind].format(rest[1]))
        return step
    if run_type == "backfill" and start_points and logical_date is not None:
        index = logical_date.microsecond
        if index >= len(start_points):
            raise PermanentStepError(
                f"Start point number {index + 1} fired this run, but the flow now has only "
                f"{len(start_points)}. Start a new run."
            )
        return start_points[index]
    return None


@dataclass(frozen=True, slots=True)
class DelayedSchedule:
    """A schedule of whole seconds that fires some microseconds late.

    Attributes:
        schedule: the schedule without the delay.
        microseconds: the delay.
    """

    schedule: Schedule
    microseconds: int

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time later than ``moment`` in UTC, or None."""
        time = self.schedule.next_after(moment - self.microseconds * _MICROSECOND)
        return None if time is None else time + self.microseconds * _MICROSECOND

    def latest_until(self, moment: datetime) -> datetime | None:
        """Return the last time not later than ``moment`` in UTC, or None."""
        time = self.schedule.latest_until(moment - self.microseconds * _MICROSECOND)
        return None if time is None else time + self.microseconds * _MICROSECOND
