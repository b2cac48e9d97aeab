"""JSON values as strings, in CSV cells and in object metadata."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_allma.expressions.js_values import to_string

__all__ = ["plain_string"]


def plain_string(value: Any) -> str:
    """Return a JSON value as a string: null is empty, objects and lists are compact JSON."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return to_string(value)
