"""The checks of schedules that Airflow itself interprets: cron expressions with five fields, and presets."""

from __future__ import annotations

from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables.fields import (
    HOURS,
    MINUTES,
    MONTH_DAYS,
    MONTHS,
    UNIX_WEEKDAYS,
    Word,
    split_words,
)

__all__ = ["PRESETS", "check_unix_cron"]

PRESETS: Final = frozenset(
    {
        "@continuous",
        "@daily",
        "@hourly",
        "@monthly",
        "@once",
        "@quarterly",
        "@weekly",
        "@yearly",
    }
)

_FIELDS: Final = (MINUTES, HOURS, MONTH_DAYS, MONTHS, UNIX_WEEKDAYS)
_LONGEST_MONTH: Final = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def check_unix_cron(schedule: str) -> None:
    """Check ``minutes hours day-of-month month day-of-week``.

    Raises:
        ExpressionSyntaxError: it is something else, or none of its months has such a day.
    """
    words = split_words(Word(schedule, schedule, 0))
    if len(words) == 6:
        # Airflow would interpret the first five of AWS's six fields, which have another meaning.
        raise ExpressionSyntaxError(
            "there are six fields, but a cron expression has five; write AWS's six as cron(...), for example "
            "cron(0 6 * * ? *)",
            schedule,
        )
    if len(words) != 5:
        raise ExpressionSyntaxError(
            "not a schedule; write cron(0 6 * * ? *), rate(6 hours), a cron expression with five fields such "
            f"as `0 6 * * *`, or one of {', '.join(sorted(PRESETS))}",
            schedule,
        )
    *_, days, months, weekdays = (field.values(word) for field, word in zip(_FIELDS, words, strict=True))
    del weekdays
    if words[4].source == "*" and all(min(days) > _LONGEST_MONTH.get(month, 31) for month in months):
        raise words[2].error("day-of-month: none of the months has such a day")
