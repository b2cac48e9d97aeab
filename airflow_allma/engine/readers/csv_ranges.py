"""Ranges of CSV that begin exactly where a record begins.

Where quotes can contain line breaks, only the bytes before a line break tell whether a record ends there. So
planning reads the object once; most of it is a search for quotes, which is much faster than reading records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from typing import Final, Protocol

from airflow_allma.engine.readers.csv_form import CsvForm
from airflow_allma.engine.readers.csv_records import record_too_long, unclosed_quote
from airflow_allma.storage import ObjectInfo, ObjectStore
from airflow_allma.storage.jsonl import MAX_LINE_BYTES
from airflow_allma.storage.manifest_ranges import ByteRange, plan_ranges
from airflow_allma.storage.object_store import BLOCK_BYTES

__all__ = ["record_ranges"]

_FIRST_READ: Final = 64 << 10
_BREAK: Final = re.compile(rb"\r\n?|\n")


def record_ranges(
    store: ObjectStore,
    info: ObjectInfo,
    form: CsvForm,
    *,
    start: int,
    range_bytes: int,
    max_ranges: int,
    block_bytes: int = BLOCK_BYTES,
) -> list[ByteRange]:
    """Split an object into ranges of whole records. None is empty.

    Args:
        store: holds the object.
        info: the object; every read is conditional on its ETag.
        form: how it is read.
        start: where the first record after the header begins.
        range_bytes: the size to aim for.
        max_ranges: the maximum number of ranges; if it is too low, they are larger.
        block_bytes: how much to request from the store at once.

    Raises:
        ObjectDecodeError: a quote is not closed, or a record is too long.
        StorageError: the object cannot be read, or has changed.
    """
    targets = [one.start for one in plan_ranges(info.size, range_bytes, max_ranges)][1:]
    starts = [start]
    if targets:
        with closing(
            store.stream(info.pointer, start, if_match=info.etag, block_bytes=block_bytes)
        ) as blocks:
            finder: _Finder = (
                _Quoted(blocks, form, start, str(info.pointer)) if form.quote else _Lines(store, info)
            )
            for target in targets:
                if target > starts[-1]:
                    starts.append(finder.first_at(target))
    ends = [*starts[1:], info.size]
    return [ByteRange(*both) for both in zip(starts, ends, strict=True) if both[0] < both[1]]


class _Finder(Protocol):
    def first_at(self, target: int) -> int:
        """Return where the first record begins at or after a byte, or the object's end; targets increase."""


class _Lines:
    """Finds records that are lines, by reading a little around each target."""

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        self._store = store
        self._info = info

    def first_at(self, target: int) -> int:
        position, size = target - 1, _FIRST_READ
        while position < self._info.size:
            end = min(position + size, self._info.size)
            data = self._store.read(self._info.pointer, position, end, if_match=self._info.etag)
            found = _BREAK.search(data)
            if found is None:
                position = end
            elif found.end() < len(data) or found[0] != b"\r" or end == self._info.size:
                return position + found.end()
            else:
                # A line feed can follow.
                position += found.start()
            if position - target > MAX_LINE_BYTES:
                raise record_too_long(target, str(self._info.pointer), MAX_LINE_BYTES)
            size = min(4 * size, BLOCK_BYTES)
        return self._info.size


class _Quoted:
    """Finds records whose fields can be quoted, in one pass over the bytes from ``start`` on.

    ``_at`` is the index in ``_data`` up to which it has been read, and ``_stop`` up to which it can be read
    before more of it is known. ``_is_open`` is whether ``_at`` is inside of a quoted field.
    """

    def __init__(self, blocks: Iterable[bytes], form: CsvForm, start: int, source: str) -> None:
        self._blocks = iter(blocks)
        self._source = source
        self._quote = form.quote.encode()
        quote, delimiter = re.escape(self._quote), re.escape(form.delimiter.encode())
        # A quote opens a field only where the field begins. `pos` does not hide what is before it.
        opening = rb"%b(?<![^%b\r\n]%b)" % (quote, delimiter, quote)
        rest = rb"[^%b]*+(?:%b%b[^%b]*+)*+(%b?+)" % ((quote,) * 5)
        # Also continues from one quoted field to the next: one match for most of a block.
        run = rb"[^%b]*+(?:%b(?:[^%b]*+(?<=[%b\r\n]))?+%b[^%b]*+)*+(%b?+)" % (
            *(quote,) * 3,
            delimiter,
            *(quote,) * 3,
        )
        self._opening, self._rest = re.compile(opening), re.compile(rest)
        self._run = re.compile(opening + run)
        self._data, self._base = b"", start
        self._at = self._stop = 0
        self._is_open = False
        # Where the field that is open begins; or the bytes, and where in them to begin to look for it.
        self._opened: int | tuple[bytes, int, int, int, bool] = 0

    def first_at(self, target: int) -> int:
        while True:
            # A line break here or later ends a record before the target.
            earliest = max(target - 1 - self._base, self._at)
            if earliest >= self._stop:
                self._skip(self._stop)
            else:
                # Another quote can follow one at the end.
                self._skip(self._at + len(self._data[self._at : earliest].rstrip(self._quote)))
                if (found := self._search(earliest)) is not None:
                    return found
            if not self._read():
                if self._is_open:
                    raise unclosed_quote(self._find_opened(), self._source)
                return self._base + self._at

    def _search(self, earliest: int) -> int | None:
        """Return the record after the first line break from an index on; None if it is not known yet."""
        while True:
            if self._is_open and not self._close(self._stop):
                return None
            quote = self._opening.search(self._data, self._at, self._stop)
            gap = quote.start() if quote else self._stop
            if found := _BREAK.search(self._data, max(self._at, earliest), gap):
                self._at = found.end()
                return self._base + self._at
            if quote is None:
                self._at = self._stop
                return None
            self._at, self._is_open, self._opened = quote.end(), True, self._base + quote.start()

    def _close(self, stop: int) -> bool:
        """Read on to the end of a quoted field; return whether it ends before an index."""
        field = self._rest.match(self._data, self._at, stop)
        self._at = field.end() if field else stop
        self._is_open = not (field and field[1])
        return not self._is_open

    def _skip(self, stop: int) -> None:
        """Read on to an index after which no quote is, only to know whether a quoted field is open there."""
        if self._at == stop:
            return
        start = (self._data, self._base, self._at, stop, self._is_open)
        if self._is_open and not self._close(stop):
            return
        while match := self._run.search(self._data, self._at, stop):
            self._at = match.end()
            if not match[1]:
                self._is_open, self._opened = True, start
                return
        self._at = stop

    def _read(self) -> bool:
        """Read the next block; return whether there was anything."""
        held = self._data[self._stop :]
        # The byte before it tells whether a quote opens a field.
        before = self._data[max(self._at - 1, 0) : self._at]
        block = next(self._blocks, b"")
        if not (held or block):
            return False
        self._base += self._stop - len(before)
        self._data, self._at = b"".join([before, held, block]), len(before)
        self._stop = len(self._data)
        if block and block.endswith(b"\r"):
            # A line feed can follow.
            self._stop -= 1
        elif block:
            # Another quote can follow.
            self._stop = max(len(self._data.rstrip(self._quote)), self._at)
            if len(self._data) - self._stop > MAX_LINE_BYTES:
                raise record_too_long(self._base + self._at, self._source, MAX_LINE_BYTES)
        return True

    def _find_opened(self) -> int:
        if isinstance(self._opened, int):
            return self._opened
        self._data, self._base, self._at, self._stop, self._is_open = self._opened
        # No record begins after the end: the search ends in the last field.
        self._search(self._stop)
        return self._find_opened()
