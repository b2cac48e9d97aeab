"""The offsets of the items that were read, for the results of their branch runs."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from airflow_allma.engine.readers.find_reader import reader_of
from airflow_allma.engine.readers.format_reader import ItemBatch
from airflow_allma.engine.results import BranchResult
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestRange, ObjectPrefix, Pointer

__all__ = ["ItemOffsets", "offset_in", "offset_name"]


class ItemOffsets:
    """Remembers the offsets of the items that were read, as their reader counts them.

    Args:
        lines: the range that is read; None for other items.
        name: what the offsets of other items are called in errors.
    """

    def __init__(self, lines: ManifestRange | None = None, *, name: str = "byteOffset") -> None:
        self._lines = lines
        self._name = name
        self._offsets = array("q")
        self._before: dict[int, int] = {}
        self._details: Callable[[int], Mapping[str, Any]] | None = None

    def use_details(self, details: Callable[[int], Mapping[str, Any]]) -> None:
        """Set what returns an item's place by its offset, for items that are not read by ranges."""
        self._details = details

    def restore(self, index: int, offset: int) -> None:
        """Add the offset of an item that another process has read, for results before this one reads it."""
        self._before[index] = offset

    def track(self, batches: Iterable[ItemBatch]) -> Iterator[list[tuple[int, Any]]]:
        """Yield index and item of each entry, batch by batch; their offsets are known from then on."""
        for first, offsets, items in batches:
            self._offsets.extend(offsets)
            yield list(zip(count(first), items))

    @property
    def last(self) -> int:
        """Offset of the last item that was read; 0 before the first."""
        return self._offsets[-1] if self._offsets else 0

    def of(self, index: int) -> int:
        """Return an item's offset; 0 for the members of a list, which have none."""
        return self._offsets[index] if index < len(self._offsets) else self._before.get(index, 0)

    def place_of(self, index: int) -> Mapping[str, Any] | None:
        """Return where an item is, as its error says (``byteOffset``); None if its offset is not known."""
        if index < len(self._offsets) or index in self._before:
            return self._place(self.of(index))
        return None

    def annotate(self, results: Sequence[BranchResult], first: int = 0) -> Sequence[BranchResult]:
        """Add to the errors of results where their items are (``byteOffset``).

        Args:
            results: of branch runs that ended.
            first: index of the first item that was read.

        Returns:
            ``results`` itself when none of them failed.
        """
        if not any([result.error is not None for result in results]):  # noqa: C419 - faster
            return results
        if not self._offsets and not self._before:
            return list(results)
        return [result if result.error is None else self._annotated(result, first) for result in results]

    def _annotated(self, result: BranchResult, first: int) -> BranchResult:
        error = result.error or {}
        details = {**self._place(self.of(result.item_index - first)), **(error.get("errorDetails") or {})}
        return msgspec.structs.replace(result, error={**error, "errorDetails": details})

    def _place(self, offset: int) -> Mapping[str, Any]:
        if self._details is not None:
            return self._details(offset)
        if self._lines is None:
            return {self._name: offset}
        return reader_of(self._lines).details(self._lines, offset)


def offset_name(pointer: Pointer | ObjectPrefix, options: ItemReader) -> str:
    """Return what the offsets of the items of an object are called, if all are read in one process.

    Args:
        pointer: the object, or the prefix.
        options: how its items are read; the format that a name does not show counts bytes.
    """
    if isinstance(pointer, ObjectPrefix) or options.format in {ItemFormat.OBJECTS, ItemFormat.MANIFEST}:
        return "itemOffset"
    is_parquet = options.format is ItemFormat.PARQUET or (
        options.format is ItemFormat.AUTO and pointer.key.lower().endswith(".parquet")
    )
    return "rowNumber" if is_parquet else "byteOffset"


def offset_in(details: Mapping[str, Any]) -> int | None:
    """Return an item's offset in its range from the details of its error.

    None: they have none. In one of several files it is ``itemOffset``; the others are the place in the file.
    """
    names = ("itemOffset",) if "object" in details else ("itemOffset", "byteOffset", "rowNumber")
    offset = next((details[name] for name in names if name in details), None)
    return offset if isinstance(offset, int) else None
