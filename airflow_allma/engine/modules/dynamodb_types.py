"""DynamoDB's typed values, as JSON and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.base64_text import to_base64
from airflow_allma.exceptions import PermanentStepError

__all__ = ["from_dynamodb", "item_from_dynamodb", "item_to_dynamodb", "to_dynamodb"]


def to_dynamodb(value: Any) -> dict[str, Any]:
    """A JSON value as DynamoDB types it: ``3`` is ``{"N": "3"}``.

    Raises:
        PermanentStepError: it is a number that no JSON has, or no JSON value.
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
            # repr has the shortest digits that mean this number, as JSON does.
            return {"N": repr(value)}
        case list():
            return {"L": [to_dynamodb(item) for item in value]}
        case Mapping():
            return {"M": item_to_dynamodb(value)}
    raise PermanentStepError(f"DynamoDB can hold no {type(value).__name__} that is not a JSON value.")


def item_to_dynamodb(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object's values as DynamoDB types them."""
    return {name: to_dynamodb(value) for name, value in item.items()}


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = Decimal(text)
        return int(number) if number == number.to_integral_value() else float(number)


def from_dynamodb(typed: Mapping[str, Any]) -> Any:
    """A typed value as JSON.

    Whole numbers are integers (exact), others floats; sets are lists, in the order in which DynamoDB gives
    them; binary values are Base64 text.
    """
    ((kind, value),) = typed.items()
    return _READERS[kind](value)


def item_from_dynamodb(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as a JSON object."""
    return {name: from_dynamodb(value) for name, value in item.items()}


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "S": lambda value: value,
        "N": _number,
        "BOOL": lambda value: value,
        "NULL": lambda _: None,
        "M": item_from_dynamodb,
        "L": lambda value: [from_dynamodb(item) for item in value],
        "B": to_base64,
        "SS": list,
        "NS": lambda value: [_number(item) for item in value],
        "BS": lambda value: [to_base64(item) for item in value],
    }
)
