"""JSON text as ``JSON.stringify`` writes it: compact, numbers and the order of keys as in JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.js_values import number_to_text
from airflow_allma.expressions.values import NOTHING

__all__ = ["json_text", "keys_in_order"]

_quoted: Callable[[str], str] = json.JSONEncoder(ensure_ascii=False).encode
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_POSITION: Final = re.compile(r"(?:0|[1-9][0-9]{0,9})\Z")
_LAST_POSITION: Final = 2**32 - 2  # larger whole numbers are ordinary names in JavaScript


def json_text(value: Any) -> str:
    """The compact JSON text of a value; NOTHING is ``null``.

    Raises:
        ExpressionEvaluationError: a value that JSON does not know, or one that is nested too deep.
    """
    pieces: list[str] = []
    try:
        _write(value, pieces.append)
    except RecursionError:
        raise ExpressionEvaluationError(
            "a value is nested too deep to be written as JSON; take a part of it"
        ) from None
    return "".join(pieces)


def keys_in_order(members: Mapping[str, Any]) -> Iterable[str]:
    """The keys as JavaScript goes through them: whole numbers first, ascending, then as they were added."""
    for key in members:
        if "0" <= key[:1] <= "9":
            return sorted(members, key=_rank)
    return members


def _rank(key: str) -> int:
    return int(key) if _POSITION.match(key) and int(key) <= _LAST_POSITION else _LAST_POSITION + 1


def _write(value: Any, add: Callable[[str], None]) -> None:
    kind = value.__class__
    if kind is str:
        add(_text(value))
    elif kind is dict or isinstance(value, Mapping):
        separator = "{"
        for key in keys_in_order(value):
            item = value[key]
            if item is NOTHING:
                continue
            if item.__class__ is str:
                add(f"{separator}{_text(key)}:{_text(item)}")
            else:
                add(f"{separator}{_text(key)}:")
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


def _text(text: str) -> str:
    quoted = _quoted(text)
    if text.isascii():
        return quoted
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _scalar(value: Any) -> str:
    if value is None or value is NOTHING:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = number_to_text(value)
        return "null" if text[-1] in "Ny" else text  # NaN and Infinity are null in JSON
    raise ExpressionEvaluationError(
        f"a value of type {type(value).__name__} cannot be written as JSON; make it a text first"
    )
