"""Descriptions of schedules in words, for people who do not read cron."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.days import (
    DayRule,
    LastDay,
    LastOfWeekday,
    LastWorkday,
    MonthDays,
    NearestWorkday,
    NthOfWeekday,
    Weekdays,
)
from airflow_allma.timetables.fields import MONTHS, YEARS

__all__ = ["describe_cron", "describe_rate"]

_FEW_TIMES: Final = 4
_NUMBERS: Final = ("first", "second", "third", "fourth", "fifth")
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def describe_cron(cron: AwsCron) -> str:
    """Return a description such as "At 06:00 and 18:00, every day (Europe/Berlin)"."""
    parts = [_times(cron.times), _days(cron.day_rule)]
    if len(cron.months) <= MONTHS.high - MONTHS.low:
        parts.append("in " + _list([calendar.month_name[month] for month in cron.months]))
    if len(cron.years) <= YEARS.high - YEARS.low:
        parts.append("in " + _numbers(cron.years))
    return f"{', '.join(parts)} ({cron.zone.key})"


def describe_rate(rate: AwsRate) -> str:
    """Return a description such as "Every 6 hours"."""
    for unit, name in (
        (timedelta(days=1), "day"),
        (timedelta(hours=1), "hour"),
        (timedelta(minutes=1), "minute"),
    ):
        count, rest = divmod(rate.interval, unit)
        if not rest:
            return f"Every {name}" if count == 1 else f"Every {count} {name}s"
    raise AssertionError(rate)


def _times(times: Sequence[int]) -> str:
    if len(times) <= _FEW_TIMES:
        return "At " + _list([f"{minutes // 60:02}:{minutes % 60:02}" for minutes in times])
    hours = sorted({minutes // 60 for minutes in times})
    past = sorted({minutes % 60 for minutes in times})
    minute_part = "Every minute" if len(past) == 60 else f"At minute {_numbers(past)}"
    return f"{minute_part} of {'every hour' if len(hours) == 24 else f'hour {_numbers(hours)}'}"


def _days(rule: DayRule) -> str:
    match rule:
        case MonthDays(numbers):
            return "every day" if len(numbers) == 31 else f"on day {_numbers(numbers)} of the month"
        case LastDay():
            return "on the last day of the month"
        case LastWorkday():
            return "on the last day from Monday to Friday of the month"
        case NearestWorkday(day):
            return f"on the day from Monday to Friday nearest to day {day} of the month"
        case Weekdays(weekdays):
            named = [_WEEKDAYS[weekday - 1] for weekday in weekdays]
            return "every day" if len(named) == 7 else f"on {_list(named)}"
        case LastOfWeekday(weekday):
            return f"on the last {_WEEKDAYS[weekday - 1]} of the month"
        case NthOfWeekday(weekday, number):
            return f"on the {_NUMBERS[number - 1]} {_WEEKDAYS[weekday - 1]} of the month"
    raise AssertionError(rule)


def _numbers(values: Sequence[int]) -> str:
    """Write three or more consecutive numbers as "first to last"."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return _list([str(value) for value in values])


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
