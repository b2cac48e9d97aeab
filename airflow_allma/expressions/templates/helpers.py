"""The helpers that return a value, ``{{json x}}``, ``(eq a b)`` and others, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.base64_text import to_base64
from airflow_allma.common.work_budget import spend_text, spend_values
from airflow_allma.expressions.js_values import greater, less, strictly_equal, to_number, to_string, truthy
from airflow_allma.expressions.json_stringify import stringify
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.syntax_tree import make_key
from airflow_allma.expressions.traversal import member
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["HELPERS", "REPLACEMENTS", "Helper"]


@dataclass(frozen=True, slots=True)
class Helper:
    """A helper that returns a value.

    Attributes:
        name: its name in templates.
        usage: an example, for errors.
        function: takes the arguments. If ``loads``, the loader of pointers comes first.
        min_arguments: the minimum number of arguments.
        max_arguments: the maximum number of arguments.
        loads: whether it can load pointers.
    """

    name: str
    usage: str
    function: Callable[..., Any]
    min_arguments: int
    max_arguments: int
    loads: bool = False


def _json(value: Any) -> str:
    return value if isinstance(value, str) else stringify(value)


def _slice(items: Any, start: Any = NOTHING, end: Any = NOTHING) -> list[Any]:
    if not isinstance(items, list):
        return []
    part = items[_slice_bound(start, 0) : _slice_bound(end, len(items))]
    spend_values(len(part))
    return part


def _slice_bound(value: Any, missing: int) -> int:
    """Return a bound of JavaScript's ``slice``. Negative bounds mean the same in Python."""
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
    string = stringify(value) if isinstance(value, Mapping | list) else to_string(value)
    spend_text(len(string))
    # JavaScript encodes a lone surrogate as the replacement character.
    encoded = string.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return to_base64(encoded)


def _lookup(load: LoadPointer, container: Any, key: Any) -> Any:
    if not truthy(container):
        return container
    # Writing a number as a key takes longer than a plain lookup.
    spend_values(1)
    return member(container, make_key(to_string(key)), load)


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
"""Every helper that returns a value, by name."""

REPLACEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "and": "nest one {{#if}} in another",
        "equals": "use eq",
        "gte": "use {{#unless (lt a b)}}",
        "is": "use eq",
        "isnt": "use neq",
        "log": "the step's log already shows its input and output",
        "lte": "use {{#unless (gt a b)}}",
        "ne": "use neq",
        "not": "use {{#unless}}",
        "or": "use {{#if a}}...{{else if b}}",
        "stringify": "use json",
        "toJSON": "use json",
        "toJson": "use json",
    }
)
"""What to write instead of helpers that other Handlebars libraries have."""
