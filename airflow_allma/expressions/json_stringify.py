"""JavaScript's ``JSON.stringify``: compact JSON with the numbers and the key order of JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_allma.common.work_budget import POINTS, spend_text
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import number_to_string
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["js_key_order", "stringify"]

_encode_string: Callable[[str], str] = json.JSONEncoder(ensure_ascii=False).encode
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ARRAY_INDEX: Final = re.compile(r"(?:0|[1-9][0-9]{0,9})\Z")
_MAX_ARRAY_INDEX: Final = 2**32 - 2  # larger integers are ordinary names in JavaScript


def stringify(value: Any) -> str:
    """Return the compact JSON of a value; NOTHING becomes ``null``.

    Raises:
        ExpressionEvaluationError: a value has a type that JSON does not have, or is nested too deeply.
        WorkLimitError: the step has now written more than its budget allows.
    """
    parts: list[str] = []
    try:
        _write(value, parts.append)
    except RecursionError:
        raise ExpressionEvaluationError(
            "a value is nested too deeply to be written as JSON; use a part of it"
        ) from None
    text = "".join(parts)
    # A short number takes longer than its characters: each value has one or two parts.
    spend_text(len(text) + len(parts) * POINTS // 2)
    return text


def js_key_order(members: Mapping[str, Any]) -> Iterable[str]:
    """Return the keys in JavaScript's order: ascending array indexes first, then by insertion."""
    for key in members:
        if "0" <= key[:1] <= "9":
            return sorted(members, key=_rank)
    return members


def _rank(key: str) -> int:
    return int(key) if _ARRAY_INDEX.match(key) and int(key) <= _MAX_ARRAY_INDEX else _MAX_ARRAY_INDEX + 1


def _write(value: Any, add: Callable[[str], None]) -> None:
    kind = value.__class__
    if kind is str:
        add(_string(value))
    elif kind is dict or isinstance(value, Mapping):
        separator = "{"
        for key in js_key_order(value):
            item = value[key]
            if item is NOTHING:
                continue
            if item.__class__ is str:
                add(f"{separator}{_string(key)}:{_string(item)}")
            else:
                add(f"{separator}{_string(key)}:")
                _write(item, add)
            separator = ","
        add("{}" if separator == "{" else "}")
    elif kind is list:
        separator = "["
        for item in value:
            add(separator)
            _write(item, add)
            separator = ","
        add("[]" if separator == "[" else "]")
    else:
        add(_scalar(value))


def _string(string: str) -> str:
    encoded = _encode_string(string)
    if string.isascii():
        return encoded
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded)


def _scalar(value: Any) -> str:
    if value is None or value is NOTHING:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = number_to_string(value)
        return "null" if number[-1] in "Ny" else number  # NaN and Infinity are null in JSON
    raise ExpressionEvaluationError(
        f"a value of type {type(value).__name__} cannot be written as JSON; convert it to a string first"
    )
