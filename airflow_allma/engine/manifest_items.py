"""The lines of a manifest as the items of a fork."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.results import BranchResult
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.decoding import BOM, decode_line, decode_lines
from airflow_allma.storage.gzip_stream import MAX_UNPACK_RATIO, decompress
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.jsonl import Line, LineBatch, batch_lines, read_line_batches, split_lines
from airflow_allma.storage.line_counter import LineCounter
from airflow_allma.storage.manifest_format import ManifestFormat, detect_format
from airflow_allma.storage.manifest_ranges import ManifestRange

__all__ = ["ByteOffsets", "ItemBatch", "ManifestItem", "manifest_batches", "range_batches", "range_items"]

_DECODE_BATCH: Final = 256
"""Lines decoded at once: as many as stay in a processor's cache until they run, and never more than a block
of the object holds."""
_BLOCK_BYTES: Final = 256 << 10
"""Bytes read at once: lines that wait to be decoded take several times their own size."""
_MAX_COUNTED_BYTES: Final = 1 << 30
"""How far into an object line breaks are counted, to report the number of a bad line."""


class ManifestItem(NamedTuple):
    """One line of a manifest.

    Attributes:
        number: its number among the lines, from 0.
        offset: where it begins, in bytes (of gzip: in the decompressed bytes).
        item: the JSON value; an ``ItemError`` for a line that is not JSON.
    """

    number: int
    offset: int
    item: Any


class ItemBatch(NamedTuple):
    """Consecutive items, as lists of equal length: cheaper than many small objects.

    Attributes:
        first: the index of the first one.
        offsets: where each begins, as ``ManifestItem.offset``.
        items: as ``ManifestItem.item``.
    """

    first: int
    offsets: list[int]
    items: list[Any]


class ByteOffsets:
    """Remembers the offsets of the lines that were read, for the results of their branch runs."""

    def __init__(self) -> None:
        self._offsets = array("q")
        self._before: dict[int, int] = {}

    def restore(self, index: int, offset: int) -> None:
        """Add the offset of a line that another process has read, for results before this one reads it."""
        self._before[index] = offset

    def track(self, batches: Iterable[ItemBatch]) -> Iterator[list[tuple[int, Any]]]:
        """Yield index and item of each line, batch by batch; their offsets are known from then on."""
        for first, offsets, items in batches:
            self._offsets.extend(offsets)
            yield list(zip(count(first), items))

    @property
    def last(self) -> int:
        """Offset of the last line that was read; 0 before the first."""
        return self._offsets[-1] if self._offsets else 0

    def of(self, index: int) -> int:
        """Return a line's offset in bytes; 0 for the members of a list, which have none."""
        return self._offsets[index] if index < len(self._offsets) else self._before.get(index, 0)

    def annotate(self, results: Sequence[BranchResult], first: int = 0) -> Sequence[BranchResult]:
        """Add the offsets of their lines (``byteOffset``) to the errors of results.

        Args:
            results: of branch runs that ended.
            first: index of the first line that was read.

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
        offset = self.of(result.item_index - first)
        details = {"byteOffset": offset, **(error.get("errorDetails") or {})}
        return msgspec.structs.replace(result, error={**error, "errorDetails": details})


def manifest_batches(
    store: ObjectStore, pointer: Pointer, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
) -> Iterator[ItemBatch]:
    """Stream all items of an object: JSON Lines or one JSON array, either of them possibly gzipped.

    Raises:
        StepError: the object cannot be read, or is invalid as a whole.
    """
    try:
        info, manifest_format = detect_format(store, pointer)
        if manifest_format is ManifestFormat.JSON_LINES:
            yield from range_batches(store, ManifestRange.whole(info))
            return
        name = str(info.pointer)
        with closing(store.stream(info.pointer, if_match=info.etag)) as blocks:
            plain = blocks
            if manifest_format.is_gzipped:
                plain = decompress(blocks, name, max_ratio=max_unpack_ratio)
            if manifest_format.is_array:
                yield from _items(batch_lines(array_elements(plain, source=name)), name, None)
            else:
                counter = _StreamCounter()
                yield from _items(split_lines(counter.track(plain), source=name), name, counter)
    except Exception as error:
        raise step_error_from(error) from error


def range_items(store: ObjectStore, lines: ManifestRange) -> Iterator[ManifestItem]:
    """Yield the items of a planned range of JSON Lines; indexes count from the range's first line.

    Raises:
        StorageError: the object cannot be read, or has changed since it was planned.
    """
    for first, offsets, items in range_batches(store, lines):
        yield from map(ManifestItem, count(first), offsets, items)


def range_batches(store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
    """Yield the same items in batches, for loops where every microsecond counts. No batch is empty.

    Raises:
        StorageError: as ``range_items``.
    """
    with closing(read_line_batches(store, lines, block_bytes=_BLOCK_BYTES)) as batches:
        counter = LineCounter(store, lines.pointer, lines.etag, max_bytes=_MAX_COUNTED_BYTES)
        yield from _items(batches, str(lines.pointer), counter)


def _items(batches: Iterable[LineBatch], name: str, counter: _Counter | None) -> Iterator[ItemBatch]:
    first = 0
    for batch in batches:
        for start in range(0, len(batch.lines), _DECODE_BATCH):
            offsets = batch.offsets[start : start + _DECODE_BATCH]
            lines = batch.lines[start : start + _DECODE_BATCH]
            items = decode_lines(lines)
            if items is None:
                items = [_decoded(line, name, counter) for line in map(Line, offsets, lines)]
            yield ItemBatch(first + start, offsets, items)
        first += len(batch.lines)


def _decoded(line: Line, name: str, counter: _Counter | None) -> Any:
    try:
        return decode_line(line.data, line.offset, name)
    except ObjectDecodeError as error:
        number = counter.number_at(line.offset) if counter is not None else None
        details = {"byteOffset": line.offset, **({"lineNumber": number} if number is not None else {})}
        where = f"Line {number}: " if number is not None else ""
        failed = step_error_from(ObjectDecodeError(f"{where}{error}"), details=details)
        return ItemError(failed)


class _Counter(Protocol):
    def number_at(self, offset: int) -> int | None:
        """Return the line's number, from 1; None when it is not known."""


class _StreamCounter:
    """Knows the line of a byte in a stream that is read block by block.

    A line that begins before the last block continues into it, so no line has ended in between.
    """

    def __init__(self) -> None:
        self._last = b""
        self._start = 0
        self._breaks = 0

    def track(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the blocks; the last one is kept."""
        for block in blocks:
            if len(self._last) < len(BOM):
                # The reader can need several very short blocks before it returns the first line.
                self._last += block
            else:
                self._breaks += self._last.count(b"\n")
                self._start += len(self._last)
                self._last = block
            yield block

    def number_at(self, offset: int) -> int:
        """Return the line's number, from 1."""
        return self._breaks + self._last.count(b"\n", 0, max(0, offset - self._start)) + 1
