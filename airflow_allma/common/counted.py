"""Numbers of things, as messages state them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """Return a number with a noun that forms its plural with "s", such as "1 chunk" or "2,000 chunks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
