"""Timestamps as strings."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso_milliseconds"]


def iso_milliseconds(moment: datetime) -> str:
    """Return an aware time in UTC with milliseconds, as JavaScript does: ``2026-03-01T08:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
