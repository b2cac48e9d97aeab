"""Items of a chunk that are selected to run again, good ones too; all others keep their results."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ItemSelection"]


@dataclass(frozen=True, slots=True)
class ItemSelection:
    """The items of one chunk that a selection names.

    Attributes:
        generation: that of the selection, from 1; a later one has a higher one.
        items: their indexes in the chunk, from 0.
    """

    generation: int
    items: frozenset[int]
