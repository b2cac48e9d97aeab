"""Modules that make or move single values: compose an object, reckon with times, make a UUID."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator

from airflow_allma.engine.modules.definition import ModuleInput
from airflow_allma.exceptions import PermanentStepError

__all__ = [
    "DateTimeCalculatorInput",
    "GenerateUuidInput",
    "calculate_date_time",
    "compose_object",
    "generate_uuid",
]

_TIME: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE: Final = "write it in UTC, such as 2026-03-01T08:30:00Z"


def _milliseconds(text: str) -> int:
    """Milliseconds since 1970; parts of a millisecond are cut off."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"is not an ISO 8601 time that ends in Z; {_EXAMPLE}")
    year, month, day, hour, minute = (int(part) for part in found.groups()[:5])
    try:
        moment = datetime(year, month, day, hour, minute, int(found[6] or 0), tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"is no time of the calendar ({error}); {_EXAMPLE}") from None
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int((found[7] or "")[:3].ljust(3, "0"))


def _checked_time(text: str) -> str:
    _milliseconds(text)
    return text


class DateTimeCalculatorInput(ModuleInput):
    """Input of ``system/date-time-calculator``; ``offset_seconds`` may have a fraction and be negative."""

    base_time: Annotated[str, AfterValidator(_checked_time)]
    offset_seconds: float
    operation: Literal["add", "subtract"]


class GenerateUuidInput(ModuleInput):
    """Input of ``system/generate-uuid``."""

    prefix: str | None = None
    suffix: str | None = None


def compose_object(inputs: dict[str, Any]) -> dict[str, Any]:
    """The input itself: the step's mappings, literals and custom config have composed it."""
    return inputs


def calculate_date_time(inputs: DateTimeCalculatorInput) -> dict[str, Any]:
    """``{"result": "YYYY-MM-DDTHH:mm:ss.sssZ"}``, in UTC.

    Raises:
        PermanentStepError: the result lies outside of the years 1 to 9999.
    """
    sign = 1 if inputs.operation == "add" else -1
    try:
        moved = _milliseconds(inputs.base_time) + sign * inputs.offset_seconds * 1000
        moment = _EPOCH + timedelta(milliseconds=math.trunc(moved))
    except (OverflowError, ValueError):
        raise PermanentStepError(
            f"system/date-time-calculator: {inputs.base_time} {inputs.operation} {inputs.offset_seconds} "
            "seconds lies outside of the years 1 to 9999. Check $.offsetSeconds: its unit is seconds."
        ) from None
    text = moment.isoformat(timespec="milliseconds")
    return {"result": text.removesuffix("+00:00") + "Z"}


def generate_uuid(inputs: GenerateUuidInput) -> dict[str, Any]:
    """``{"uuid": prefix + random UUID + suffix}``."""
    return {"uuid": f"{inputs.prefix or ''}{uuid.uuid4()}{inputs.suffix or ''}"}
