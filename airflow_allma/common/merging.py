"""Merging JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["merge_deep"]


def merge_deep(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``override`` on top: objects merge, any other value (also a list) is replaced.

    Neither argument is changed. Values that were not merged are shared with the result.
    """
    merged = dict(base)
    for key, value in override.items():
        current = merged.get(key)
        merged[key] = (
            merge_deep(current, value)
            if isinstance(current, Mapping) and isinstance(value, Mapping)
            else value
        )
    return merged
