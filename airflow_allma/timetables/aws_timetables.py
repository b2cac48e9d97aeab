"""AWS's schedules as timetables of Airflow's. Unlike its neighbours this module imports Airflow."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.choosing import Schedule, next_run
from airflow_allma.timetables.describing import describe_cron, describe_rate

__all__ = ["AwsCronTimetable", "AwsRateTimetable"]


class _AwsTimetable(Timetable):
    """Runs at the times of a schedule; a run's data interval is that moment, as with Airflow's triggers."""

    @property
    @abstractmethod
    def _schedule(self) -> Schedule:
        """When it fires."""

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """The moment of the run."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run; None: there is none."""
        found = next_run(
            self._schedule,
            last=None if last_automated_data_interval is None else _plain(last_automated_data_interval.end),
            earliest=restriction.earliest and _plain(restriction.earliest),
            latest=restriction.latest and _plain(restriction.latest),
            catchup=restriction.catchup,
            now=datetime.now(UTC),
        )
        return None if found is None else DagRunInfo.exact(pendulum.instance(found, tz="UTC"))

    def __eq__(self, other: object) -> bool:
        """Whether both fire at the same times."""
        return isinstance(other, type(self)) and self._schedule == other._schedule

    def __hash__(self) -> int:
        return hash(self._schedule)


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
    def _schedule(self) -> AwsCron:
        return self._cron

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
    def _schedule(self) -> AwsRate:
        return self._rate

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


def _plain(moment: datetime) -> datetime:
    """In UTC, and not pendulum's: that one's differences cannot be divided by Python's."""
    utc = moment.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
