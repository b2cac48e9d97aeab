"""AWS ``cron(minutes hours day-of-month month day-of-week year)``: when it fires."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables.days import DayRule, month_rule, week_rule
from airflow_allma.timetables.fields import HOURS, MINUTES, MONTHS, YEARS, Field, Word, split_words

__all__ = ["AwsCron"]

_FORM: Final = (
    "write cron(minutes hours day-of-month month day-of-week year), for example cron(0 6 * * ? *): "
    "every day at 06:00"
)
_MINUTE: Final = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AwsCron:
    """A parsed AWS cron expression.

    A local time that does not exist is skipped. A local time that occurs twice fires only the first time.

    Attributes:
        expression: the expression as written, without surrounding white space.
        zone: the time zone of its hours.
        times: the minutes since midnight, in order.
        day_rule: the days of a month.
        months: 1 to 12, in order.
        years: the years, in order.
    """

    expression: str
    zone: ZoneInfo
    times: tuple[int, ...]
    day_rule: DayRule
    months: tuple[int, ...]
    years: tuple[int, ...]

    @classmethod
    def parse(cls, expression: str, zone: ZoneInfo) -> AwsCron:
        """Parse an expression.

        Raises:
            ExpressionSyntaxError: AWS would not accept it, or none of its years has such a day.
        """
        body = expression.strip()
        if not (body.startswith("cron(") and body.endswith(")")):
            raise ExpressionSyntaxError(f"not an AWS cron expression; {_FORM}", expression)
        start = expression.index("cron(") + 5
        words = split_words(Word(body[5:-1], expression, start))
        if len(words) != 6:
            raise ExpressionSyntaxError(
                f"six fields are required, but there are {len(words)}; {_FORM}", expression, start
            )
        minutes, hours, month_day, month, weekday, year = words
        for word, field in ((minutes, MINUTES), (hours, HOURS), (month, MONTHS), (year, YEARS)):
            _reject_question_mark(word, field)
        cron = cls(
            expression=body,
            zone=zone,
            times=tuple(
                60 * hour + minute for hour in HOURS.values(hours) for minute in MINUTES.values(minutes)
            ),
            day_rule=_day_rule(month_day, weekday),
            months=MONTHS.values(month),
            years=YEARS.values(year),
        )
        if next(cron._dates(dt.date.min), None) is None:
            raise month_day.error("day-of-month: no month and year of the expression has such a day")
        return cron

    def next_after(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the first time later than ``moment``.

        Args:
            moment: a datetime with a time zone.

        Returns:
            The time in UTC, or None if it does not fire again.
        """
        local = _wall_clock(moment, self.zone)
        for candidate in self._forward(local):
            instant = self._instant(candidate)
            if instant is not None and instant > moment:
                return instant
        return None

    def latest_until(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the last time not later than ``moment`` in UTC, or None if it has not fired before."""
        local = _wall_clock(moment, self.zone)
        zoned = moment.astimezone(self.zone)
        # In the second occurrence of an hour, all of the first occurrence has already passed.
        overlap = _offset(zoned.replace(fold=0)) - _offset(zoned.replace(fold=1))
        if zoned.fold and overlap > dt.timedelta():
            local += overlap
        for candidate in self._backward(local):
            instant = self._instant(candidate)
            if instant is not None and instant <= moment:
                return instant
        return None

    def _instant(self, local: dt.datetime) -> dt.datetime | None:
        instant = local.replace(tzinfo=self.zone, fold=0).astimezone(dt.UTC)
        return instant if instant.astimezone(self.zone).replace(tzinfo=None) == local else None

    def _forward(self, start: dt.datetime) -> Iterator[dt.datetime]:
        for day in self._dates(start.date()):
            first = bisect.bisect_left(self.times, _minutes(start)) if day == start.date() else 0
            for minutes in self.times[first:]:
                yield _at(day, minutes)

    def _backward(self, start: dt.datetime) -> Iterator[dt.datetime]:
        for day in self._dates_backward(start.date()):
            end = bisect.bisect_right(self.times, _minutes(start)) if day == start.date() else None
            for minutes in reversed(self.times[:end]):
                yield _at(day, minutes)

    def _dates(self, start: dt.date) -> Iterator[dt.date]:
        for year in self.years[bisect.bisect_left(self.years, start.year) :]:
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self.day_rule.days(year, month):
                    date = dt.date(year, month, day)
                    if date >= start:
                        yield date

    def _dates_backward(self, start: dt.date) -> Iterator[dt.date]:
        for year in reversed(self.years[: bisect.bisect_right(self.years, start.year)]):
            for month in reversed(self.months):
                if (year, month) > (start.year, start.month):
                    continue
                for day in reversed(self.day_rule.days(year, month)):
                    date = dt.date(year, month, day)
                    if date <= start:
                        yield date


def _reject_question_mark(word: Word, field: Field) -> None:
    if "?" in word.source:
        raise word.error(
            f"{field.name}: `?` is only allowed in day-of-month or day-of-week; write * for every value"
        )


def _day_rule(month_day: Word, weekday: Word) -> DayRule:
    if month_day.source == "?" and weekday.source == "?":
        raise weekday.error(
            "day-of-week: `?` is used in day-of-month too; set the days in one of the two, * for every day"
        )
    if month_day.source == "?":
        return week_rule(weekday)
    if weekday.source == "?":
        return month_rule(month_day)
    raise weekday.error(
        "day-of-week: one of day-of-month and day-of-week must be `?`; "
        "write ? in the one that does not matter"
    )


def _wall_clock(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0, second=0, microsecond=0)


def _offset(local: dt.datetime) -> dt.timedelta:
    return local.utcoffset() or dt.timedelta()


def _minutes(local: dt.datetime) -> int:
    return 60 * local.hour + local.minute


def _at(day: dt.date, minutes: int) -> dt.datetime:
    return dt.datetime.combine(day, dt.time()) + minutes * _MINUTE
