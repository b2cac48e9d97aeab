"""``system/compose-object-from-input``: returns its input."""

from __future__ import annotations

from typing import Any

__all__ = ["compose_object"]


def compose_object(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the input itself: the step's mappings, literals and custom config have composed it."""
    return inputs
