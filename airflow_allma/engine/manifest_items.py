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
from airflow_allma.storage.gunzip import gunzip
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.jsonl import Line, LineBatch, batch_lines, read_line_batches, split_lines
from airflow_allma.storage.line_counter import LineCounter
from airflow_allma.storage.manifest_plan import detect_format
from airflow_allma.storage.manifest_ranges import ManifestFormat, ManifestRange

__all__ = ["ByteOffsets", "ItemBatch", "ManifestItem", "chunk_batches", "chunk_items", "manifest_batches"]

_DECODED_AT_ONCE: Final = 256
"""Most lines that are decoded, and wait to run, in one go: as many as stay in a processor's cache until they
do, and never more than a block of the object holds."""
_BLOCK_BYTES: Final = 256 << 10
"""Read at once: lines that wait to be decoded take several times their own size."""
_MOST_COUNTED_BYTES: Final = 1 << 30
"""How far into an object line breaks are counted, to say a bad line's number."""


class ManifestItem(NamedTuple):
    """One line of a manifest.

    Attributes:
        place: which of the lines it is, from 0.
        offset: where it begins, in bytes; of what is packed, in what comes out of it.
        item: the JSON value; an ``ItemError`` for a line that is not JSON.
    """

    place: int
    offset: int
    item: Any


class ItemBatch(NamedTuple):
    """Some items in a row, as lists of one length: cheaper than many small objects.

    Attributes:
        first: the place of the first one.
        offsets: where each begins, as ``ManifestItem.offset``.
        items: as ``ManifestItem.item``.
    """

    first: int
    offsets: list[int]
    items: list[Any]


class ByteOffsets:
    """Where the lines that have passed by begin, for the results of their branch runs."""

    def __init__(self) -> None:
        self._offsets = array("q")

    def passing(self, batches: Iterable[ItemBatch]) -> Iterator[list[tuple[int, Any]]]:
        """Index and item of each line, batch by batch; their offsets are known from then on."""
        for first, offsets, items in batches:
            self._offsets.extend(offsets)
            yield list(zip(count(first), items))

    @property
    def last(self) -> int:
        """Where the last line that has passed by begins; 0 before the first."""
        return self._offsets[-1] if self._offsets else 0

    def of(self, index: int) -> int:
        """A line's offset in bytes; 0 for the members of a list, which never passed by."""
        return self._offsets[index] if self._offsets else 0

    def told(self, results: Sequence[BranchResult], first: int = 0) -> Sequence[BranchResult]:
        """The results, whose errors say where their lines begin (``byteOffset``).

        Args:
            results: as they ended.
            first: index of the first line that has passed by.

        Returns:
            ``results`` itself when none of them has failed.
        """
        if not any([result.error is not None for result in results]):  # noqa: C419 - quicker
            return results
        if not self._offsets:
            return list(results)
        return [result if result.error is None else self._told(result, first) for result in results]

    def _told(self, result: BranchResult, first: int) -> BranchResult:
        error = result.error or {}
        offset = self._offsets[result.item_index - first]
        details = {"byteOffset": offset, **(error.get("errorDetails") or {})}
        return msgspec.structs.replace(result, error={**error, "errorDetails": details})


def manifest_batches(store: ObjectStore, pointer: Pointer) -> Iterator[ItemBatch]:
    """All items of an object, streamed: JSON Lines or one JSON array, either of them perhaps gzipped.

    Raises:
        StepError: the object cannot be read, or is broken as a whole.
    """
    try:
        info, found = detect_format(store, pointer)
        if found is ManifestFormat.JSON_LINES:
            yield from chunk_batches(store, ManifestRange.whole(info))
            return
        name = str(info.pointer)
        with closing(store.stream(info.pointer, if_match=info.etag)) as blocks:
            plain = gunzip(blocks, name) if found.is_gzipped else blocks
            if found.is_array:
                yield from _items(batch_lines(array_elements(plain, source=name)), name, None)
            else:
                counter = _PassingCounter()
                yield from _items(split_lines(counter.passing(plain), source=name), name, counter)
    except Exception as error:
        raise step_error_from(error) from error


def chunk_items(store: ObjectStore, chunk: ManifestRange) -> Iterator[ManifestItem]:
    """The items of one planned chunk of JSON Lines; places count from the chunk's first line.

    Raises:
        StorageError: the object cannot be read, or is not the planned one any more.
    """
    for first, offsets, items in chunk_batches(store, chunk):
        yield from map(ManifestItem, count(first), offsets, items)


def chunk_batches(store: ObjectStore, chunk: ManifestRange) -> Iterator[ItemBatch]:
    """The same items in batches, for loops that count every microsecond. No batch is empty.

    Raises:
        StorageError: as ``chunk_items``.
    """
    with closing(read_line_batches(store, chunk, block_bytes=_BLOCK_BYTES)) as batches:
        counter = LineCounter(store, chunk.pointer, chunk.etag, max_bytes=_MOST_COUNTED_BYTES)
        yield from _items(batches, str(chunk.pointer), counter)


def _items(batches: Iterable[LineBatch], name: str, counter: _Counter | None) -> Iterator[ItemBatch]:
    first = 0
    for batch in batches:
        for start in range(0, len(batch.lines), _DECODED_AT_ONCE):
            offsets = batch.offsets[start : start + _DECODED_AT_ONCE]
            lines = batch.lines[start : start + _DECODED_AT_ONCE]
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
        """The line's number, from 1; None when nobody knows."""


class _PassingCounter:
    """Says at which line a byte lies of a text that passes by, block by block.

    A line that begins before the last block goes on into it, so no line has ended in between.
    """

    def __init__(self) -> None:
        self._last = b""
        self._start = 0
        self._breaks = 0

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The blocks, of which the last one is held."""
        for block in blocks:
            if len(self._last) < len(BOM):
                # The reader may look at several very short blocks before it gives the first line.
                self._last += block
            else:
                self._breaks += self._last.count(b"\n")
                self._start += len(self._last)
                self._last = block
            yield block

    def number_at(self, offset: int) -> int:
        """The line's number, from 1."""
        return self._breaks + self._last.count(b"\n", 0, max(0, offset - self._start)) + 1
