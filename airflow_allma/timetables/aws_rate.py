"""AWS ``rate(value unit)``: when it fires."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError

__all__ = ["AwsRate"]

_RATE_PATTERN: Final = re.compile(r"rate\(\s*(\S+)\s+(\S+)\s*\)")
_UNITS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_MAX_INTERVAL: Final = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class AwsRate:
    """A parsed AWS rate expression: it fires at ``start`` and then at regular intervals.

    A day is always 24 hours, as on AWS, even when clocks change.

    Attributes:
        expression: the expression as written, without surrounding white space.
        interval: the time between two runs.
        start: the first time, in UTC.
    """

    expression: str
    interval: timedelta
    start: datetime

    @classmethod
    def parse(cls, expression: str, start: datetime) -> AwsRate:
        """Parse an expression.

        Args:
            expression: the expression.
            start: the first time, with a time zone.

        Raises:
            ExpressionSyntaxError: AWS would not accept it.
        """
        body = expression.strip()
        match = _RATE_PATTERN.fullmatch(body)
        if match is None:
            raise ExpressionSyntaxError(
                "not an AWS rate expression; write rate(value unit), for example rate(6 hours)", expression
            )
        number, unit = match.groups()
        offset = expression.index(body)
        if not (number.isascii() and number.isdigit()) or int(number[:9]) == 0:
            raise ExpressionSyntaxError(
                f"the value {number!r} is not a positive integer; write one, for example rate(6 hours)",
                expression,
                offset + match.start(1),
            )
        is_one = number.lstrip("0") == "1"
        singular = unit if is_one else unit.removesuffix("s")
        if singular not in _UNITS or (not is_one and singular == unit):
            raise ExpressionSyntaxError(
                f"the unit {unit!r} does not match {number[:9]}; write "
                + ("minute, hour or day" if is_one else "minutes, hours or days"),
                expression,
                offset + match.start(2),
            )
        value = int(number[:9])
        if len(number) > 9 or value > _MAX_INTERVAL / _UNITS[singular]:
            raise ExpressionSyntaxError(
                "the interval is longer than a hundred years; write a smaller value",
                expression,
                offset + match.start(1),
            )
        return cls(body, value * _UNITS[singular], start.astimezone(UTC))

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time later than ``moment`` in UTC."""
        if moment < self.start:
            return self.start
        try:
            return self.start + ((moment - self.start) // self.interval + 1) * self.interval
        except OverflowError:
            return None

    def latest_until(self, moment: datetime) -> datetime | None:
        """Return the last time not later than ``moment`` in UTC, or None if it has not fired before."""
        if moment < self.start:
            return None
        return self.start + (moment - self.start) // self.interval * self.interval
