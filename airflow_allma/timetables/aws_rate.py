"""AWS's ``rate(value unit)``: when it fires."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError

__all__ = ["AwsRate"]

_FORM: Final = re.compile(r"rate\(\s*(\S+)\s+(\S+)\s*\)")
_UNITS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_LONGEST: Final = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class AwsRate:
    """When a rate expression of AWS's fires: at ``start``, and then again and again.

    A day is 24 hours, also where clocks are changed: this is what AWS does.

    Attributes:
        text: the expression as it was written.
        every: from one time to the next.
        start: the first time, in UTC.
    """

    text: str
    every: timedelta
    start: datetime

    @classmethod
    def parse(cls, text: str, start: datetime) -> AwsRate:
        """Read an expression.

        Args:
            text: the expression.
            start: the first time, with a time zone.

        Raises:
            ExpressionSyntaxError: AWS would not take it.
        """
        body = text.strip()
        found = _FORM.fullmatch(body)
        if found is None:
            raise ExpressionSyntaxError(
                "not a rate expression of AWS's; write rate(value unit), for example rate(6 hours)", text
            )
        number, unit = found.groups()
        begin = text.index(body)
        if not (number.isascii() and number.isdigit()) or int(number[:9]) == 0:
            raise ExpressionSyntaxError(
                f"the value {number!r} is no whole number above 0; write one, for example rate(6 hours)",
                text,
                begin + found.start(1),
            )
        one = number.lstrip("0") == "1"
        singular = unit if one else unit.removesuffix("s")
        if singular not in _UNITS or (not one and singular == unit):
            raise ExpressionSyntaxError(
                f"the unit {unit!r} does not go with {number[:9]}; write "
                + ("minute, hour or day" if one else "minutes, hours or days"),
                text,
                begin + found.start(2),
            )
        value = int(number[:9])
        if len(number) > 9 or value > _LONGEST / _UNITS[singular]:
            raise ExpressionSyntaxError(
                "longer than a hundred years; write a smaller value", text, begin + found.start(1)
            )
        return cls(body, value * _UNITS[singular], start.astimezone(UTC))

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time that is later than a moment, in UTC."""
        if moment < self.start:
            return self.start
        try:
            return self.start + ((moment - self.start) // self.every + 1) * self.every
        except OverflowError:
            return None

    def latest_until(self, moment: datetime) -> datetime | None:
        """The last time that is not later than a moment, in UTC; None: it has not fired before."""
        if moment < self.start:
            return None
        return self.start + (moment - self.start) // self.every * self.every
