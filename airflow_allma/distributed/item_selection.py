"""Items of a fork that are selected to run again, good ones too; all others keep their results.

A selection is a JSON object::

    {"version": 1, "generation": 1764170000, "chunks": {"3": [0, 17], "5": [4]}}

``chunks`` has the indexes of items in their chunk, from 0, by the number of the chunk. Of two selections the
later one has the higher ``generation``, as ``next_generation`` returns it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

import msgspec

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.result_format import MAX_GENERATION

__all__ = ["MAX_SELECTED_ITEMS", "ForkSelection", "ItemSelection", "next_generation"]

MAX_SELECTED_ITEMS: Final = 10_000
_MAX_BYTES: Final = 1 << 20
_MAX_AHEAD_SECONDS: Final = 86_400
"""How far the clock of whoever made a selection can be ahead."""

_Number = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,8})$")]
_Item = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
_Items = Annotated[list[_Item], msgspec.Meta(min_length=1, max_length=MAX_SELECTED_ITEMS)]


@dataclass(frozen=True, slots=True)
class ItemSelection:
    """The items of one chunk that a selection names.

    Attributes:
        generation: that of the selection, from 1; a later one has a higher one.
        items: their indexes in the chunk, from 0.
    """

    generation: int
    items: frozenset[int]

    def to_dict(self) -> dict[str, Any]:
        """Return the selection as a JSON object, for ``from_dict``."""
        return {"generation": self.generation, "items": sorted(self.items)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Restore what ``to_dict`` returned."""
        return cls(int(saved["generation"]), frozenset(saved["items"]))


class ForkSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A selection of a fork's items.

    Attributes:
        version: the version of this format.
        generation: a later selection has a higher one.
        chunks: chunk number in decimal digits -> indexes of items in the chunk, from 0.
    """

    version: Literal[1]
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)]
    chunks: dict[_Number, _Items]

    @classmethod
    def of(cls, generation: int, chunks: Mapping[int, Sequence[int]]) -> Self:
        """Return the selection of items by chunk number."""
        return cls(1, generation, {str(number): list(items) for number, items in chunks.items()})

    @classmethod
    def parse(cls, encoded: Any) -> Self:
        """Read a selection.

        Args:
            encoded: the JSON text.

        Raises:
            ValueError: it is not a selection; the message says what is wrong.
        """
        if not isinstance(encoded, str):
            raise ValueError(f"it must be a string with JSON, not {type(encoded).__name__}")  # noqa: TRY004
        if len(encoded) > _MAX_BYTES:
            raise ValueError(f"it has {len(encoded):,} characters, more than {_MAX_BYTES:,}")
        try:
            selection = msgspec.json.decode(encoded, type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        count = sum(map(len, selection.chunks.values()))
        if count > MAX_SELECTED_ITEMS:
            raise ValueError(f"it names {count:,} items, more than {MAX_SELECTED_ITEMS:,}")
        if selection.generation > time.time() + _MAX_AHEAD_SECONDS:
            # Results of such a generation would count for ever.
            raise ValueError("its generation, a time in seconds, is more than a day ahead of the clock")
        return selection

    def encode(self) -> str:
        """Return the JSON text, for ``parse``."""
        return msgspec.json.encode(self).decode()

    def of_chunk(self, chunk: ChunkSpec) -> ItemSelection | None:
        """Return the items of one chunk; None if all of its items are to be treated as without a selection.

        Raises:
            ValueError: it names an item that the chunk does not have.
        """
        items = self.chunks.get(str(chunk.number))
        if items is None:
            return None
        if chunk.count is not None and max(items) >= chunk.count:
            raise ValueError(
                f"it names item {max(items)} of chunk {chunk.number} ({chunk.label}), which has "
                f"{chunk.count} items, counted from 0"
            )
        return ItemSelection(self.generation, frozenset(items))


def next_generation(last: int = 0) -> int:
    """Return the generation of a new selection.

    It is the time in seconds, so that it is higher than that of a selection that has been deleted, too.

    Args:
        last: the generation of the selection that the new one replaces.
    """
    return max(last + 1, int(time.time()))
