"""Conversion between JSON values and the typed values of DynamoDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.base64_text import to_base64
from airflow_allma.exceptions import PermanentStepError

__all__ = ["from_dynamodb", "item_from_dynamodb", "item_to_dynamodb", "to_dynamodb"]


def to_dynamodb(value: Any) -> dict[str, Any]:
    """Return a JSON value as a typed value: ``3`` is ``{"N": "3"}``.

    Raises:
        PermanentStepError: it is not a JSON value, for example NaN.
    """
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case float() if value - value == 0:
            # repr has the fewest digits that identify the number, as JSON does.
            return {"N": repr(value)}
        case list():
            return {"L": [to_dynamodb(item) for item in value]}
        case Mapping():
            return {"M": item_to_dynamodb(value)}
    raise PermanentStepError(f"DynamoDB cannot store a {type(value).__name__} that is not a JSON value.")


def item_to_dynamodb(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with typed values."""
    return {name: to_dynamodb(value) for name, value in item.items()}


def from_dynamodb(typed: Mapping[str, Any]) -> Any:
    """Return a typed value as JSON.

    Whole numbers are exact integers, other numbers are floats. Sets are lists in DynamoDB's order. Binary
    values are Base64 strings.
    """
    ((kind, value),) = typed.items()
    return _READERS[kind](value)


def item_from_dynamodb(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as a JSON object."""
    return {name: from_dynamodb(value) for name, value in item.items()}


def _parse_number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        number = Decimal(digits)
        return int(number) if number == number.to_integral_value() else float(number)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "S": lambda value: value,
        "N": _parse_number,
        "BOOL": lambda value: value,
        "NULL": lambda _: None,
        "M": item_from_dynamodb,
        "L": lambda value: [from_dynamodb(item) for item in value],
        "B": to_base64,
        "SS": list,
        "NS": lambda value: [_parse_number(item) for item in value],
        "BS": lambda value: [to_base64(item) for item in value],
    }
)
