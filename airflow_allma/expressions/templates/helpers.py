"""The helpers that give a value: ``{{json x}}``, ``(eq a b)`` and the others, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.base64_text import to_base64
from airflow_allma.expressions.js_values import greater, less, strictly_equal, to_number, to_text, truthy
from airflow_allma.expressions.json_text import json_text
from airflow_allma.expressions.path_syntax import key_segment
from airflow_allma.expressions.values import NOTHING, LoadPointer
from airflow_allma.expressions.walking import member

__all__ = ["HELPERS", "INSTEAD", "Helper"]


@dataclass(frozen=True, slots=True)
class Helper:
    """A helper that gives a value.

    Attributes:
        name: what a template calls it.
        usage: how it is written, for errors.
        function: takes the arguments; before them what loads pointers, if ``loads``.
        least: fewest arguments.
        most: most arguments.
    """

    name: str
    usage: str
    function: Callable[..., Any]
    least: int
    most: int
    loads: bool = False


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _slice(items: Any, start: Any = NOTHING, end: Any = NOTHING) -> list[Any]:
    if not isinstance(items, list):
        return []
    return items[_position(start, 0) : _position(end, len(items))]


def _position(value: Any, missing: int) -> int:
    """A bound of JavaScript's ``slice``; Python reads negative ones alike."""
    if value is NOTHING:
        return missing
    number = to_number(value)
    if math.isnan(number):
        return 0
    if math.isinf(number):
        return 2**62 if number > 0 else -(2**62)
    return int(number)


def _differs(left: Any, right: Any) -> bool:
    return not strictly_equal(left, right)


def _default(value: Any, fallback: Any) -> Any:
    return fallback if value is None or value is NOTHING else value


def _base64(value: Any) -> str:
    if not truthy(value):
        return ""
    text = json_text(value) if isinstance(value, Mapping | list) else to_text(value)
    # JavaScript encodes half a character as the replacement character.
    encoded = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return to_base64(encoded)


def _lookup(load: LoadPointer, container: Any, key: Any) -> Any:
    if not truthy(container):
        return container
    return member(container, key_segment(to_text(key)), load)


HELPERS: Final[Mapping[str, Helper]] = MappingProxyType(
    {
        helper.name: helper
        for helper in (
            Helper("base64", "{{base64 text}}", _base64, 1, 1),
            Helper("default", "{{default value fallback}}", _default, 2, 2),
            Helper("eq", "{{#if (eq a b)}}", strictly_equal, 2, 2),
            Helper("gt", "{{#if (gt a b)}}", greater, 2, 2),
            Helper("json", "{{json value}}", _json, 1, 1),
            Helper("lookup", "{{lookup container key}}", _lookup, 2, 2, loads=True),
            Helper("lt", "{{#if (lt a b)}}", less, 2, 2),
            Helper("neq", "{{#if (neq a b)}}", _differs, 2, 2),
            Helper("slice", "{{#each (slice list start end)}}", _slice, 1, 3),
        )
    }
)
"""Every helper that gives a value, by name."""

INSTEAD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "and": "put one {{#if}} into another",
        "equals": "use eq",
        "gte": "use {{#unless (lt a b)}}",
        "is": "use eq",
        "isnt": "use neq",
        "log": "the step's log shows its input and output anyway",
        "lte": "use {{#unless (gt a b)}}",
        "ne": "use neq",
        "not": "use {{#unless}}",
        "or": "use {{#if a}}...{{else if b}}",
        "stringify": "use json",
        "toJSON": "use json",
        "toJson": "use json",
    }
)
"""What to write instead of helpers that people know from elsewhere."""
