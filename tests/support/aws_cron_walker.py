"""A second implementation of AWS cron expressions, which checks every minute of every day.

It shares no code with the package, whose results it verifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def number(value: str, names: list[str]) -> int:
    return names.index(value) + 1 if value in names else int(value)


def includes(field: str, value: int, low: int, high: int, names: list[str] | None = None) -> bool:
    """Return whether a list of values, ranges and steps includes a value."""
    for part in field.split(","):
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


def on_day_of_month(field: str, day: date) -> bool:
    if field == "L":
        return (day + timedelta(1)).day == 1
    if field == "LW":
        return day == workdays_of_month(day)[-1]
    if field.endswith("W"):
        nominal_day = int(field[:-1])
        try:
            day.replace(day=nominal_day)
        except ValueError:
            return False
        return day == min(workdays_of_month(day), key=lambda one: abs(one.day - nominal_day))
    return includes(field, day.day, 1, 31)


def on_day_of_week(field: str, day: date) -> bool:
    if field == "L":
        return day.isoweekday() == 6
    if "#" in field:
        name, nth = field.split("#")
        return weekday_of(day) == number(name, WEEKDAYS) and (day.day - 1) // 7 + 1 == int(nth)
    if field.endswith("L"):
        last_week = (day + timedelta(7)).month != day.month
        return weekday_of(day) == number(field[:-1], WEEKDAYS) and last_week
    return includes(field, weekday_of(day), 1, 7, WEEKDAYS)


def fires(expression: str, zone: ZoneInfo, after: datetime, days: int) -> Iterator[datetime]:
    """Yield all times at which an expression fires after a moment, for a number of days."""
    minutes, hours, month_day, month, weekday, year = expression.removeprefix("cron(").rstrip(")").split()
    fires_at_minute = [includes(minutes, minute, 0, 59) for minute in range(60)]
    fires_at_hour = [includes(hours, hour, 0, 23) for hour in range(24)]
    first = after.astimezone(zone).date()
    for day in (first + timedelta(n) for n in range(days)):
        if not includes(month, day.month, 1, 12, MONTHS) or not includes(year, day.year, 1970, 2199):
            continue
        if not (on_day_of_week(weekday, day) if month_day == "?" else on_day_of_month(month_day, day)):
            continue
        # Local days begin up to 14 hours before those of UTC, and end up to 12 hours after.
        start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
        for moment in (start + timedelta(minutes=n) for n in range(54 * 60)):
            local = moment.astimezone(zone)
            if not (fires_at_minute[local.minute] and fires_at_hour[local.hour]):
                continue
            if local.date() == day and not local.fold and moment > after:
                yield moment
