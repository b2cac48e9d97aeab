"""The lines of a manifest as the items of a fork."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.results import BranchResult
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.chunks import ManifestChunk, ManifestFormat
from airflow_allma.storage.decoding import decode_line, decode_lines
from airflow_allma.storage.gunzip import gunzip
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.jsonl import Line, read_line_batches, split_lines
from airflow_allma.storage.manifest import detect_format

__all__ = ["ByteOffsets", "ManifestItem", "chunk_items", "manifest_items"]

_DECODED_AT_ONCE: Final = 256
"""Lines that are decoded in one go."""
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


class ByteOffsets:
    """Where the lines that have passed by begin, for the results of their branch runs."""

    def __init__(self) -> None:
        self._offsets = array("q")

    def passing(self, lines: Iterable[ManifestItem]) -> Iterator[tuple[int, Any]]:
        """Index and item of each line, whose offset is known from then on."""
        note = self._offsets.append
        for index, offset, item in lines:
            note(offset)
            yield index, item

    def of(self, index: int) -> int:
        """A line's offset in bytes; 0 for the members of a list, which never passed by."""
        return self._offsets[index] if self._offsets else 0

    def told(self, index: int, result: BranchResult) -> BranchResult:
        """The result, whose error says where its line begins (``byteOffset``)."""
        if result.error is None or not self._offsets:
            return result
        details = {"byteOffset": self._offsets[index], **(result.error.get("errorDetails") or {})}
        return msgspec.structs.replace(result, error={**result.error, "errorDetails": details})


def manifest_items(store: ObjectStore, pointer: Pointer) -> Iterator[ManifestItem]:
    """All items of an object, streamed: JSON Lines or one JSON array, either of them perhaps gzipped.

    Raises:
        StepError: the object cannot be read, or is broken as a whole.
    """
    try:
        info, found = detect_format(store, pointer)
        if found is ManifestFormat.JSON_LINES:
            yield from chunk_items(store, ManifestChunk.whole(info))
            return
        name = str(info.pointer)
        with closing(store.stream(info.pointer, if_match=info.etag)) as blocks:
            plain = gunzip(blocks, name) if found.is_packed else blocks
            lines = array_elements(plain, source=name) if found.is_array else _lines(plain, name)
            for index, line in enumerate(lines):
                yield ManifestItem(index, line.offset, _decoded(line, name, None))
    except Exception as error:
        raise step_error_from(error) from error


def chunk_items(store: ObjectStore, chunk: ManifestChunk) -> Iterator[ManifestItem]:
    """The items of one planned chunk of JSON Lines; places count from the chunk's first line.

    Raises:
        StorageError: the object cannot be read, or is not the planned one any more.
    """
    counter = _LineCounter(store, chunk)
    name = str(chunk.pointer)
    first = 0
    with closing(read_line_batches(store, chunk)) as batches:
        for batch in batches:
            for start in range(0, len(batch.lines), _DECODED_AT_ONCE):
                offsets = batch.offsets[start : start + _DECODED_AT_ONCE]
                lines = batch.lines[start : start + _DECODED_AT_ONCE]
                items = decode_lines(lines)
                if items is None:
                    items = [_decoded(line, name, counter) for line in map(Line, offsets, lines)]
                yield from map(ManifestItem, count(first + start), offsets, items)
            first += len(batch.lines)


def _lines(blocks: Iterable[bytes], name: str) -> Iterator[Line]:
    for batch in split_lines(blocks, source=name):
        yield from map(Line, batch.offsets, batch.lines)


def _decoded(line: Line, name: str, counter: _LineCounter | None) -> Any:
    try:
        return decode_line(line.data, line.offset, name)
    except ObjectDecodeError as error:
        number = counter.number_at(line.offset) if counter is not None else None
        details = {"byteOffset": line.offset, **({"lineNumber": number} if number is not None else {})}
        where = f"Line {number}: " if number is not None else ""
        failed = step_error_from(ObjectDecodeError(f"{where}{error}"), details=details)
        return ItemError(failed)


class _LineCounter:
    """Says at which line a byte lies; counts only when asked, and on from where it counted last."""

    def __init__(self, store: ObjectStore, chunk: ManifestChunk) -> None:
        self._store = store
        self._chunk = chunk
        self._offset = 0
        self._breaks = 0

    def number_at(self, offset: int) -> int | None:
        """The line's number, from 1; None when it lies too far into the object to count."""
        if offset > _MOST_COUNTED_BYTES:
            return None
        if offset > self._offset:
            blocks = self._store.stream(self._chunk.pointer, self._offset, offset, if_match=self._chunk.etag)
            self._breaks += sum(block.count(b"\n") for block in blocks)
            self._offset = offset
        return self._breaks + 1
