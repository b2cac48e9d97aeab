"""Airflow timetables for AWS schedules. This is the only module of this package that imports Airflow.

Serialized Dags contain the paths of these classes and the keys of their ``serialize``: do not rename them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from airflow_allma.flow.airflow_limits import MAX_TIMETABLE_LENGTH
from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.descriptions import describe_cron, describe_rate
from airflow_allma.timetables.next_run import Schedule, next_run
from airflow_allma.timetables.schedules import is_aws_rate
from airflow_allma.timetables.start_points import DelayedSchedule, StartPoint, run_id_suffix

__all__ = ["AwsCronTimetable", "AwsRateTimetable", "StartPointsTimetable"]

_SEPARATOR: Final = "; "


class _AwsTimetable(Timetable):
    """A timetable that runs at points in time; as in Airflow's triggers, these are the data intervals."""

    @property
    @abstractmethod
    def _schedules(self) -> tuple[Schedule, ...]:
        """The schedules. All of them fire, but never two at the same time."""

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """Return the moment of the run."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run, or None."""
        last = None if last_automated_data_interval is None else _to_utc(last_automated_data_interval.end)
        earliest = restriction.earliest and _to_utc(restriction.earliest)
        latest = restriction.latest and _to_utc(restriction.latest)
        now = datetime.now(UTC)
        # Each schedule on its own: without catchup, the latest missed time of each one is made up for.
        candidates = [
            next_run(
                schedule,
                last=last,
                earliest=earliest,
                latest=latest,
                catchup=restriction.catchup,
                now=now,
            )
            for schedule in self._schedules
        ]
        first = min((moment for moment in candidates if moment is not None), default=None)
        return None if first is None else DagRunInfo.exact(pendulum.instance(first, tz="UTC"))

    def __eq__(self, other: object) -> bool:
        """Whether both fire at the same times."""
        return isinstance(other, type(self)) and self._schedules == other._schedules

    def __hash__(self) -> int:
        return hash(self._schedules)


class AwsCronTimetable(_AwsTimetable):
    """A timetable that runs when an AWS ``cron(...)`` expression fires.

    A local time that does not exist is skipped. A local time that occurs twice fires only the first time.

    Args:
        expression: six fields, ``cron(0 6 * * ? *)``.
        timezone: the IANA name of the time zone of its hours.

    Raises:
        ExpressionSyntaxError: AWS would not accept the expression.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._cron = AwsCron.parse(expression, ZoneInfo(timezone))
        self.description = _shorten(describe_cron(self._cron))

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return (self._cron,)

    @property
    def summary(self) -> str:
        """The schedule as the UI shows it."""
        return self._cron.expression

    def serialize(self) -> dict[str, Any]:
        """Return the timetable as JSON."""
        return {"expression": self._cron.expression, "timezone": self._cron.zone.key}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AwsCronTimetable:
        """Return the timetable from its JSON."""
        return cls(data["expression"], data["timezone"])


class AwsRateTimetable(_AwsTimetable):
    """A timetable that runs when an AWS ``rate(...)`` expression fires: at ``start``, then at intervals.

    Args:
        expression: ``rate(6 hours)``.
        start: the first time, with a time zone. Runs are whole intervals away from it even if Airflow skips
            the earlier ones.

    Raises:
        ExpressionSyntaxError: AWS would not accept the expression.
    """

    def __init__(self, expression: str, start: datetime) -> None:
        self._rate = AwsRate.parse(expression, _to_utc(start))
        self.description = describe_rate(self._rate)

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return (self._rate,)

    @property
    def summary(self) -> str:
        """The schedule as the UI shows it."""
        return self._rate.expression

    def serialize(self) -> dict[str, Any]:
        """Return the timetable as JSON."""
        return {"expression": self._rate.expression, "start": self._rate.start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AwsRateTimetable:
        """Return the timetable from its JSON."""
        return cls(data["expression"], datetime.fromisoformat(data["start"]))


class StartPointsTimetable(_AwsTimetable):
    """A timetable that runs when a SCHEDULE_START_POINT step of a flow fires. The run's id names the step.

    Start points that fire at the same time create a run each: all but the flow's first fire some
    microseconds late.

    Args:
        points: the start points, at least one.
        start: the first time of those with ``rate(...)``, with a time zone.

    Raises:
        ExpressionSyntaxError: AWS would not accept one of the expressions.
    """

    def __init__(self, points: Sequence[StartPoint], start: datetime) -> None:
        self._points = tuple(points)
        # Whole seconds: the microseconds tell the start points apart.
        self._start = _to_utc(start).replace(microsecond=0)
        self._delayed_schedules = tuple(
            DelayedSchedule(_schedule_of(point, self._start), point.index) for point in self._points
        )
        description = _SEPARATOR.join(
            f"{point.step_id}: {_describe(delayed.schedule)}"
            for point, delayed in zip(self._points, self._delayed_schedules, strict=True)
        )
        self.description = _shorten(description)

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return self._delayed_schedules

    @property
    def summary(self) -> str:
        """The schedule as the UI shows it."""
        return _shorten(_SEPARATOR.join(dict.fromkeys(point.expression for point in self._points)))

    def generate_run_id(
        self,
        *,
        run_type: Any,
        run_after: pendulum.DateTime,
        data_interval: DataInterval | None,
        **extra: Any,
    ) -> str:
        """Return a run id that, for a scheduled run, ends with the id of the step that fires it."""
        run_id = super().generate_run_id(
            run_type=run_type, run_after=run_after, data_interval=data_interval, **extra
        )
        if run_type != "scheduled":
            return run_id
        index = run_after.microsecond
        suffixes = (run_id_suffix(point.step_id) for point in self._points if point.index == index)
        return run_id + next(suffixes, "")

    def serialize(self) -> dict[str, Any]:
        """Return the timetable as JSON."""
        return {"points": [_point_as_json(point) for point in self._points], "start": self._start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> StartPointsTimetable:
        """Return the timetable from its JSON."""
        points = [_point_from_json(point) for point in data["points"]]
        return cls(points, datetime.fromisoformat(data["start"]))

    def __eq__(self, other: object) -> bool:
        """Whether the same start points fire at the same times."""
        return isinstance(other, StartPointsTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self._points, self._start))


def _point_as_json(point: StartPoint) -> dict[str, Any]:
    return {
        "step_id": point.step_id,
        "place": point.index,
        "expression": point.expression,
        "timezone": point.timezone,
    }


def _point_from_json(data: dict[str, Any]) -> StartPoint:
    return StartPoint(data["step_id"], data["place"], data["expression"], data["timezone"])


def _schedule_of(point: StartPoint, start: datetime) -> AwsCron | AwsRate:
    if is_aws_rate(point.expression):
        return AwsRate.parse(point.expression, start)
    return AwsCron.parse(point.expression, ZoneInfo(point.timezone))


def _shorten(text: str) -> str:
    if len(text) <= MAX_TIMETABLE_LENGTH:
        return text
    return text[: MAX_TIMETABLE_LENGTH - 4] + " ..."


def _describe(schedule: Schedule) -> str:
    match schedule:
        case AwsCron():
            return describe_cron(schedule)
        case AwsRate():
            return describe_rate(schedule)
    raise AssertionError(schedule)


def _to_utc(moment: datetime) -> datetime:
    """Return a plain datetime in UTC: differences of pendulum's cannot be divided by Python's timedelta."""
    utc = moment.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
