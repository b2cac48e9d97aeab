"""What Airflow is given as it is: cron expressions with five fields, and presets."""

from __future__ import annotations

from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables.fields import HOURS, MINUTES, MONTH_DAYS, MONTHS, UNIX_WEEKDAYS, Word, words_of

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


def check_unix_cron(text: str) -> None:
    """Check ``minutes hours day-of-month month day-of-week``.

    Raises:
        ExpressionSyntaxError: it is something else, or has a day that no month has.
    """
    words = words_of(Word(text, text, 0))
    if len(words) == 6:
        # With six, Airflow would take the first five for what they are not.
        raise ExpressionSyntaxError(
            "six fields: a cron expression has five; write AWS's six as cron(...), for example "
            "cron(0 6 * * ? *)",
            text,
        )
    if len(words) != 5:
        raise ExpressionSyntaxError(
            "not a schedule; write cron(0 6 * * ? *), rate(6 hours), a cron expression with five fields such "
            f"as `0 6 * * *`, or one of {', '.join(sorted(PRESETS))}",
            text,
        )
    *_, days, months, weekdays = (field.values(word) for field, word in zip(_FIELDS, words, strict=True))
    del weekdays
    if words[4].text == "*" and all(min(days) > _LONGEST_MONTH.get(month, 31) for month in months):
        raise words[2].error("day-of-month: none of the months has such a day")
