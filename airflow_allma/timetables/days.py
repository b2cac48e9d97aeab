"""Day rules: the days of a month on which a schedule fires."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from typing import Final, Protocol

from airflow_allma.timetables.fields import MONTH_DAYS, WEEKDAYS, Word

__all__ = [
    "DayRule",
    "LastDay",
    "LastOfWeekday",
    "LastWorkday",
    "MonthDays",
    "NearestWorkday",
    "NthOfWeekday",
    "Weekdays",
    "month_rule",
    "week_rule",
]

_SATURDAY: Final = 7
_SUNDAY: Final = 1
_OF_WEEKDAY: Final = re.compile(r"([A-Za-z]+?|\d+)(L|#.*)", re.IGNORECASE | re.DOTALL)


class DayRule(Protocol):
    """A rule that selects days of a month."""

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """Return the selected days of the month, counted from 1, in order; possibly none."""


@dataclass(frozen=True, slots=True)
class MonthDays:
    """Days by number; days that a month does not have are skipped."""

    numbers: tuple[int, ...]

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        last = _last(year, month)
        return tuple(day for day in self.numbers if day <= last)


@dataclass(frozen=True, slots=True)
class LastDay:
    """``L``: the last day of the month."""

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        return (_last(year, month),)


@dataclass(frozen=True, slots=True)
class LastWorkday:
    """``LW``: the last day from Monday to Friday."""

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        return (_nearest(year, month, _last(year, month)),)


@dataclass(frozen=True, slots=True)
class NearestWorkday:
    """``15W``: the day from Monday to Friday that is nearest to this one, in the same month."""

    day: int

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule. A month that does not have the day has no nearest day either."""
        return (_nearest(year, month, self.day),) if self.day <= _last(year, month) else ()


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Days of the week; Sunday is 1."""

    weekdays: tuple[int, ...]

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        first = _weekday(year, month, 1)
        return tuple(
            day for day in range(1, _last(year, month) + 1) if (first + day - 2) % 7 + 1 in self.weekdays
        )


@dataclass(frozen=True, slots=True)
class LastOfWeekday:
    """``6L``: the last Friday of the month."""

    weekday: int

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        last = _last(year, month)
        return (last - (_weekday(year, month, last) - self.weekday) % 7,)


@dataclass(frozen=True, slots=True)
class NthOfWeekday:
    """``6#3``: the third Friday of the month; not every month has a fifth."""

    weekday: int
    number: int

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """See DayRule."""
        day = 1 + (self.weekday - _weekday(year, month, 1)) % 7 + 7 * (self.number - 1)
        return (day,) if day <= _last(year, month) else ()


def month_rule(word: Word) -> DayRule:
    """Parse AWS's day-of-month field, which is not ``?``.

    Raises:
        ExpressionSyntaxError: AWS would not accept the field.
    """
    upper = word.source.upper()
    if upper == "L":
        return LastDay()
    if upper == "LW":
        return LastWorkday()
    if upper.endswith("W") and upper[:-1].isdigit():
        return NearestWorkday(MONTH_DAYS.value(Word(word.source[:-1], word.expression, word.start)))
    if "L" in upper or "W" in upper:
        raise word.error(
            f"day-of-month: `{word.source}` is not a valid use of L or W, which cannot be combined; "
            "write L (the last day), LW (the last day from Monday to Friday) or 15W (the one nearest to the "
            "15th)"
        )
    return MonthDays(MONTH_DAYS.values(word))


def week_rule(word: Word) -> DayRule:
    """Parse AWS's day-of-week field, which is not ``?``.

    Raises:
        ExpressionSyntaxError: AWS would not accept the field.
    """
    if word.source.upper() == "L":
        return Weekdays((_SATURDAY,))
    special = _OF_WEEKDAY.fullmatch(word.source)
    if special is None:
        return Weekdays(WEEKDAYS.values(word))
    weekday = WEEKDAYS.value(Word(special[1], word.expression, word.start))
    if special[2].upper() == "L":
        return LastOfWeekday(weekday)
    number = special[2][1:]
    if number not in {"1", "2", "3", "4", "5"}:
        raise word.error(
            "day-of-week: `#` must be followed by one number from 1 to 5 and nothing else; "
            "write 6#3 or FRI#3 for the third Friday"
        )
    return NthOfWeekday(weekday, int(number))


def _last(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _weekday(year: int, month: int, day: int) -> int:
    return (calendar.weekday(year, month, day) + 1) % 7 + 1


def _nearest(year: int, month: int, day: int) -> int:
    weekday = _weekday(year, month, day)
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == _SUNDAY:
        return day + 1 if day < _last(year, month) else day - 2
    return day
