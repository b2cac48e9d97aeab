"""When a flow's Dag runs by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Final

from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow
from airflow_allma.timetables import StartPoint, is_aws_cron, is_aws_rate, schedule_problem, start_points_of

__all__ = ["ScheduleKind", "SchedulePlan", "plan_schedule"]

_FIRST_DATE: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A fixed date: one that moved would make a new version of the Dag at every parse."""


class ScheduleKind(StrEnum):
    """Who calculates the times of a schedule."""

    MANUAL = "manual"
    """No one: the Dag runs only when it is triggered."""
    AIRFLOW = "airflow"
    """Airflow: a cron expression of five fields, or a preset."""
    AWS_CRON = "aws cron"
    AWS_RATE = "aws rate"
    START_POINTS = "start points"
    """The schedules of the flow's SCHEDULE_START_POINT steps."""


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """The schedule of a Dag.

    Attributes:
        kind: who calculates its times.
        start: the Dag's start date; its zone is that of Airflow's cron expressions.
        expression: the expression; None without one, and for start points.
        timezone: IANA name of the zone of AWS's ``cron(...)``.
        points: the start points that fire.
    """

    kind: ScheduleKind
    start: datetime
    expression: str | None = None
    timezone: str = "UTC"
    points: tuple[StartPoint, ...] = ()

    @property
    def is_scheduled(self) -> bool:
        """Whether the Dag runs by itself."""
        return self.kind is not ScheduleKind.MANUAL

    @property
    def is_continuous(self) -> bool:
        """Whether each run follows the one before at once."""
        return self.kind is ScheduleKind.AIRFLOW and self.expression == "@continuous"


def plan_schedule(flow: Flow) -> SchedulePlan:
    """Return when the Dag of a flow runs by itself.

    Raises:
        FlowError: the schedule, the start date or the time zone is not valid, or there are start points and
            ``airflow.schedule``.
    """
    options = flow.airflow
    start = _start_date(flow)
    if flow.enabled_start_points:
        if options.schedule is not None:
            raise FlowError(
                f"Flow {flow.id}: a Dag has one schedule, and the flow has SCHEDULE_START_POINT steps and "
                "airflow.schedule; remove airflow.schedule."
            )
        _check_start_points(flow)
        return SchedulePlan(ScheduleKind.START_POINTS, start, points=start_points_of(flow))
    schedule = options.schedule
    if schedule is None:
        return SchedulePlan(ScheduleKind.MANUAL, start)
    if problem := schedule_problem(schedule):
        raise FlowError(f"Flow {flow.id}: airflow.schedule {schedule!r}: {problem}.")
    if is_aws_cron(schedule):
        return SchedulePlan(ScheduleKind.AWS_CRON, start, schedule, options.timezone or "UTC")
    if is_aws_rate(schedule):
        return SchedulePlan(ScheduleKind.AWS_RATE, start, schedule)
    return SchedulePlan(ScheduleKind.AIRFLOW, start, schedule.strip())


def _check_start_points(flow: Flow) -> None:
    for step in flow.enabled_start_points:
        if problem := schedule_problem(step.schedule_expression, flow.flow_variables):
            raise FlowError(
                f"Flow {flow.id}: scheduleExpression {step.schedule_expression!r} of step "
                f"{step.step_instance_id}: {problem}."
            )


def _start_date(flow: Flow) -> datetime:
    zone = _zone(flow)
    written = flow.airflow.start_date
    if written is None:
        return _FIRST_DATE.astimezone(zone)
    try:
        start = datetime.fromisoformat(written)
    except ValueError as error:
        raise FlowError(
            f"Flow {flow.id}: airflow.startDate {written!r} is not an ISO 8601 date, such as 2026-01-31."
        ) from error
    return start.astimezone(zone) if start.tzinfo else start.replace(tzinfo=zone)


def _zone(flow: Flow) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    name = flow.airflow.timezone
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise FlowError(
            f"Flow {flow.id}: airflow.timezone {name!r} is not a time zone, such as Europe/Berlin."
        ) from error
