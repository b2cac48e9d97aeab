"""AWS's cron expressions once more, the slow way: looks at every day and every minute there is.

Written apart from the package, to check its answers against.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def number(text: str, names: list[str]) -> int:
    return names.index(text) + 1 if text in names else int(text)


def said(text: str, value: int, low: int, high: int, names: list[str] | None = None) -> bool:
    """Whether a list of values, ranges and steps says a value."""
    for part in text.split(","):
        base, _, step = part.partition("/")
        if base == "*":
            first, last = low, high
        elif "-" in base:
            first, last = (number(end, names or []) for end in base.split("-"))
        else:
            first = number(base, names or [])
            last = high if step else first
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False


def weekday_of(day: date) -> int:
    return day.isoweekday() % 7 + 1


def workdays_of_month(day: date) -> list[date]:
    days = [day.replace(day=1) + timedelta(n) for n in range(31)]
    return [one for one in days if one.month == day.month and one.isoweekday() <= 5]


def on_day_of_month(text: str, day: date) -> bool:
    if text == "L":
        return (day + timedelta(1)).day == 1
    if text == "LW":
        return day == workdays_of_month(day)[-1]
    if text.endswith("W"):
        wanted = int(text[:-1])
        try:
            day.replace(day=wanted)
        except ValueError:
            return False
        return day == min(workdays_of_month(day), key=lambda one: abs(one.day - wanted))
    return said(text, day.day, 1, 31)


def on_day_of_week(text: str, day: date) -> bool:
    if text == "L":
        return day.isoweekday() == 6
    if "#" in text:
        name, nth = text.split("#")
        return weekday_of(day) == number(name, WEEKDAYS) and (day.day - 1) // 7 + 1 == int(nth)
    if text.endswith("L"):
        last_week = (day + timedelta(7)).month != day.month
        return weekday_of(day) == number(text[:-1], WEEKDAYS) and last_week
    return said(text, weekday_of(day), 1, 7, WEEKDAYS)


def fires(expression: str, zone: ZoneInfo, after: datetime, days: int) -> Iterator[datetime]:
    """All times after a moment, until so many days after it."""
    minutes, hours, month_day, month, weekday, year = expression.removeprefix("cron(").rstrip(")").split()
    first = after.astimezone(zone).date()
    for day in (first + timedelta(n) for n in range(days)):
        if not said(month, day.month, 1, 12, MONTHS) or not said(year, day.year, 1970, 2199):
            continue
        if not (on_day_of_week(weekday, day) if month_day == "?" else on_day_of_month(month_day, day)):
            continue
        # Local days begin up to 14 hours before those of UTC, and end up to 12 hours after.
        start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
        for moment in (start + timedelta(minutes=n) for n in range(54 * 60)):
            local = moment.astimezone(zone)
            if local.date() != day or local.fold or moment <= after:
                continue
            if said(minutes, local.minute, 0, 59) and said(hours, local.hour, 0, 23):
                yield moment
