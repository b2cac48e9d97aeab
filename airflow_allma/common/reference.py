"""What an expression reads: the names at the beginning of each of its paths."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Reference"]


class Reference(NamedTuple):
    """A place in an expression that reads a value."""

    names: tuple[str, ...]
    """The keys from the root, up to the first operator: ``("steps_output", "call")``; never empty."""
    in_block: bool = False
    """Whether the names begin at the value of an ``{{#each}}`` or ``{{#with}}``, not at the root."""
    is_tested: bool = False
    """Whether an ``{{#if}}`` or ``{{#unless}}`` tests the value, which can therefore be missing."""
