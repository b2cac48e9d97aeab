"""AWS's schedules as timetables of Airflow's. Unlike its neighbours this module imports Airflow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.descriptions import describe_cron, describe_rate
from airflow_allma.timetables.next_run import Schedule, next_run
from airflow_allma.timetables.schedules import is_aws_rate
from airflow_allma.timetables.start_points import Shifted, StartPoint, run_id_ending

__all__ = ["AwsCronTimetable", "AwsRateTimetable", "StartPointsTimetable"]

_LONGEST_DESCRIPTION: Final = 1000
"""Characters that Airflow's database takes."""


class _AwsTimetable(Timetable):
    """Runs at the times of a schedule; a run's data interval is that moment, as with Airflow's triggers."""

    @property
    @abstractmethod
    def _schedules(self) -> tuple[Schedule, ...]:
        """When it fires: at the times of each of these, which never fire at the same one."""

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """The moment of the run."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run; None: there is none."""
        last = None if last_automated_data_interval is None else _plain(last_automated_data_interval.end)
        earliest = restriction.earliest and _plain(restriction.earliest)
        latest = restriction.latest and _plain(restriction.latest)
        now = datetime.now(UTC)
        # Each for itself: without catching up the latest time of each that was missed is made up for.
        found = [
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
        first = min((moment for moment in found if moment is not None), default=None)
        return None if first is None else DagRunInfo.exact(pendulum.instance(first, tz="UTC"))

    def __eq__(self, other: object) -> bool:
        """Whether both fire at the same times."""
        return isinstance(other, type(self)) and self._schedules == other._schedules

    def __hash__(self) -> int:
        return hash(self._schedules)


class AwsCronTimetable(_AwsTimetable):
    """Runs when AWS's ``cron(...)`` fires.

    A local time that does not exist is skipped; of a local time that occurs twice only the first counts.

    Args:
        expression: six fields, ``cron(0 6 * * ? *)``.
        timezone: IANA name of the zone where its hours are told.

    Raises:
        ExpressionSyntaxError: AWS would not take the expression.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._cron = AwsCron.parse(expression, ZoneInfo(timezone))
        self.description = describe_cron(self._cron)

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return (self._cron,)

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return self._cron.text

    def serialize(self) -> dict[str, Any]:
        """As JSON."""
        return {"expression": self._cron.text, "timezone": self._cron.zone.key}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AwsCronTimetable:
        """From JSON."""
        return cls(data["expression"], data["timezone"])


class AwsRateTimetable(_AwsTimetable):
    """Runs when AWS's ``rate(...)`` fires: at ``start``, and then again and again.

    Args:
        expression: ``rate(6 hours)``.
        start: the first time, with a time zone; where Airflow asks for later runs only, they are still whole
            steps away from it.

    Raises:
        ExpressionSyntaxError: AWS would not take the expression.
    """

    def __init__(self, expression: str, start: datetime) -> None:
        self._rate = AwsRate.parse(expression, _plain(start))
        self.description = describe_rate(self._rate)

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return (self._rate,)

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return self._rate.text

    def serialize(self) -> dict[str, Any]:
        """As JSON."""
        return {"expression": self._rate.text, "start": self._rate.start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AwsRateTimetable:
        """From JSON."""
        return cls(data["expression"], datetime.fromisoformat(data["start"]))


class StartPointsTimetable(_AwsTimetable):
    """Runs when one of the SCHEDULE_START_POINT steps of a flow fires; the id of the run names the step.

    Start points that fire at the same time make a run each: all but the flow's first fire some microseconds
    late.

    Args:
        points: the start points, at least one.
        start: the first time of those with ``rate(...)``, with a time zone.

    Raises:
        ExpressionSyntaxError: AWS would not take one of the expressions.
    """

    def __init__(self, points: Sequence[StartPoint], start: datetime) -> None:
        self._points = tuple(points)
        # Whole seconds: the rest tells the start points apart.
        self._start = _plain(start).replace(microsecond=0)
        self._fires = tuple(Shifted(_schedule_of(point, self._start), point.place) for point in self._points)
        told = "; ".join(
            f"{point.step_id}: {_described(fires.schedule)}"
            for point, fires in zip(self._points, self._fires, strict=True)
        )
        self.description = _shortened(told, _LONGEST_DESCRIPTION)

    @property
    def _schedules(self) -> tuple[Schedule, ...]:
        return self._fires

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return "; ".join(dict.fromkeys(point.expression for point in self._points))

    def generate_run_id(
        self,
        *,
        run_type: Any,
        run_after: pendulum.DateTime,
        data_interval: DataInterval | None,
        **extra: Any,
    ) -> str:
        """For a scheduled run with the id of the step that fires it."""
        run_id = super().generate_run_id(
            run_type=run_type, run_after=run_after, data_interval=data_interval, **extra
        )
        if run_type != "scheduled":
            return run_id
        place = run_after.microsecond
        ending = (run_id_ending(point.step_id) for point in self._points if point.place == place)
        return run_id + next(ending, "")

    def serialize(self) -> dict[str, Any]:
        """As JSON."""
        return {"points": [asdict(point) for point in self._points], "start": self._start.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> StartPointsTimetable:
        """From JSON."""
        points = [StartPoint(**point) for point in data["points"]]
        return cls(points, datetime.fromisoformat(data["start"]))

    def __eq__(self, other: object) -> bool:
        """Whether the same start points fire at the same times."""
        return isinstance(other, StartPointsTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self._points, self._start))


def _schedule_of(point: StartPoint, start: datetime) -> AwsCron | AwsRate:
    if is_aws_rate(point.expression):
        return AwsRate.parse(point.expression, start)
    return AwsCron.parse(point.expression, ZoneInfo(point.timezone))


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4] + " ..."


def _described(schedule: Schedule) -> str:
    match schedule:
        case AwsCron():
            return describe_cron(schedule)
        case AwsRate():
            return describe_rate(schedule)
    raise AssertionError(schedule)


def _plain(moment: datetime) -> datetime:
    """In UTC, and not pendulum's: that one's differences cannot be divided by Python's."""
    utc = moment.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
