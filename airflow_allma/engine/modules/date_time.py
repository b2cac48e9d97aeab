"""``system/date-time-calculator``: a time plus or minus seconds."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.engine.modules.definition import ModuleInput
from airflow_allma.exceptions import PermanentStepError

__all__ = ["DateTimeCalculatorInput", "calculate_date_time"]

_TIME: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE: Final = "use UTC, such as 2026-03-01T08:30:00Z"


def _parse_milliseconds(time: str) -> int:
    """Return milliseconds since 1970; fractions of a millisecond are truncated."""
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"is not an ISO 8601 time that ends in Z; {_EXAMPLE}")
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    try:
        moment = datetime(year, month, day, hour, minute, int(match[6] or 0), tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"is not a valid date and time ({error}); {_EXAMPLE}") from None
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int((match[7] or "")[:3].ljust(3, "0"))


def _validate_time(time: str) -> str:
    _parse_milliseconds(time)
    return time


class DateTimeCalculatorInput(ModuleInput):
    """Input of ``system/date-time-calculator``; ``offset_seconds`` can be fractional and negative."""

    base_time: Annotated[str, AfterValidator(_validate_time)]
    offset_seconds: float
    operation: Literal["add", "subtract"]


def calculate_date_time(inputs: DateTimeCalculatorInput) -> dict[str, Any]:
    """Return ``{"result": "YYYY-MM-DDTHH:mm:ss.sssZ"}``, in UTC.

    Raises:
        PermanentStepError: the result is outside of the years 1 to 9999.
    """
    sign = 1 if inputs.operation == "add" else -1
    try:
        milliseconds = _parse_milliseconds(inputs.base_time) + sign * inputs.offset_seconds * 1000
        moment = _EPOCH + timedelta(milliseconds=math.trunc(milliseconds))
    except (OverflowError, ValueError):
        raise PermanentStepError(
            f"system/date-time-calculator: {inputs.base_time} {inputs.operation} {inputs.offset_seconds} "
            "seconds is outside of the years 1 to 9999. Check $.offsetSeconds: its unit is seconds."
        ) from None
    return {"result": iso_milliseconds(moment)}
