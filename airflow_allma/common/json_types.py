"""What messages call the types of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Final

__all__ = ["type_name"]

_NAMES: Final[Mapping[type, str]] = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
}


def type_name(value: object) -> str:
    """Return the type of a JSON value with its article, such as ``an object``, or ``null``.

    Other values, such as dates, have the name of their Python type.
    """
    if isinstance(value, Mapping):
        return "an object"
    return _NAMES.get(type(value), type(value).__name__)
