"""When a flow's Dag runs by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Final

from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow
from airflow_allma.flow.event_rules import queue_asset_uri
from airflow_allma.timetables import StartPoint, is_aws_cron, is_aws_rate, schedule_problem, start_points_of

__all__ = ["EventPlan", "ScheduleKind", "SchedulePlan", "plan_schedule"]

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
class EventPlan:
    """The assets whose updates start runs of a Dag.

    Attributes:
        assets: their URIs.
        requires_all: whether a run starts when all were updated, not when any was.
        queue_url: the queue whose messages update the only asset; None if other Dags update the assets.
        conn_id: the connection for the queue; None: that of ``[allma] aws_conn_id``.
    """

    assets: tuple[str, ...]
    requires_all: bool = False
    queue_url: str | None = None
    conn_id: str | None = None


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """The schedule of a Dag: times, events, or both.

    Attributes:
        kind: who calculates its times.
        start: the Dag's start date; its zone is that of Airflow's cron expressions.
        expression: the expression; None without one, and for start points.
        timezone: IANA name of the zone of AWS's ``cron(...)``.
        points: the start points that fire.
        events: what starts runs besides time; None: nothing.
    """

    kind: ScheduleKind
    start: datetime
    expression: str | None = None
    timezone: str = "UTC"
    points: tuple[StartPoint, ...] = ()
    events: EventPlan | None = None

    @property
    def is_scheduled(self) -> bool:
        """Whether the Dag runs by itself."""
        return self.kind is not ScheduleKind.MANUAL or self.events is not None

    @property
    def is_continuous(self) -> bool:
        """Whether each run follows the one before at once."""
        return self.kind is ScheduleKind.AIRFLOW and self.expression == "@continuous"


def plan_schedule(flow: Flow) -> SchedulePlan:
    """Return when the Dag of a flow runs by itself.

    Raises:
        FlowError: the schedule, the start date or the time zone is not valid, or there are start points and
            a time in ``airflow.schedule``.
    """
    start = _start_date(flow)
    events = _plan_events(flow)
    schedule = flow.airflow.time_schedule
    if flow.enabled_start_points:
        if schedule is not None:
            raise FlowError(
                f"Flow {flow.id}: a Dag has one schedule, and the flow has SCHEDULE_START_POINT steps and "
                "airflow.schedule; remove airflow.schedule."
            )
        _check_start_points(flow)
        return SchedulePlan(ScheduleKind.START_POINTS, start, points=start_points_of(flow), events=events)
    if schedule is None:
        return SchedulePlan(ScheduleKind.MANUAL, start, events=events)
    if problem := schedule_problem(schedule):
        raise FlowError(f"Flow {flow.id}: airflow.schedule {schedule!r}: {problem}.")
    if is_aws_cron(schedule):
        return SchedulePlan(ScheduleKind.AWS_CRON, start, schedule, flow.airflow.timezone or "UTC")
    if is_aws_rate(schedule):
        return SchedulePlan(ScheduleKind.AWS_RATE, start, schedule)
    return SchedulePlan(ScheduleKind.AIRFLOW, start, schedule.strip())


def _plan_events(flow: Flow) -> EventPlan | None:
    options = flow.airflow
    if options.watch is not None:
        url = options.watch.sqs_queue_url
        return EventPlan(
            (queue_asset_uri(url),), queue_url=url, conn_id=options.watch.conn_id or options.aws_conn_id
        )
    assets = options.asset_schedule
    return None if assets is None else EventPlan(assets.assets, assets.requires_all)


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
