"""The records of CSV: blocks of bytes become rows of fields, with where each of them begins.

A block is split into lines, and ``csv`` joins them to rows; all of that is done in C. Only the record that
extends over two blocks is read again.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from io import StringIO
from itertools import accumulate, chain, islice, pairwise
from typing import Final, NamedTuple

from airflow_allma.engine.readers.csv_form import UTF_8, CsvForm, RowReader, StateReader
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.jsonl import MAX_LINE_BYTES

__all__ = [
    "BAD_BYTES",
    "MARK_BAD_BYTES",
    "RecordBatch",
    "count_breaks",
    "opening_quote",
    "read_records",
    "record_too_long",
    "unclosed_quote",
]

_BATCH: Final = 256
"""Rows read at once: as many as stay in a processor's cache until they run."""
# It becomes a row of its own, unless a quote is open.
_SENTINEL: Final = "."
BAD_BYTES: Final = "\ud800"
"""Half a surrogate pair, which no valid bytes decode to, replaces bytes that are not valid."""
MARK_BAD_BYTES: Final = "airflow_allma.mark_bad_bytes"
"""The name of this rule, for ``bytes.decode``."""


def _mark_bad_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD_BYTES, error.end


codecs.register_error(MARK_BAD_BYTES, _mark_bad_bytes)


class RecordBatch(NamedTuple):
    """Consecutive records.

    Attributes:
        offsets: where each begins, in bytes, and where the last one ends.
        line: the line breaks before the first, counted from where reading began.
        lines: the line breaks between the start of the first and each of ``offsets``.
        rows: the fields of each; a blank line is an empty row.
        is_valid: whether all bytes are valid in the encoding; others are replaced by ``BAD_BYTES``.
    """

    offsets: list[int]
    line: int
    lines: Sequence[int]
    rows: list[list[str]]
    is_valid: bool


def read_records(
    blocks: Iterable[bytes],
    form: CsvForm,
    *,
    start: int = 0,
    ends: bool = True,
    source: str = "the object",
    max_record_bytes: int = MAX_LINE_BYTES,
) -> Generator[RecordBatch, None, None]:
    """Split blocks into records. No batch is empty.

    Memory is bounded by a block and a record.

    Args:
        blocks: the bytes from ``start`` on, where a record begins.
        form: how they are read.
        start: offset of the first byte; at 0 a byte order mark of UTF-8 is skipped.
        ends: whether the last record ends with the blocks; if not, it is left out unless it is complete.
        source: names the object in errors.
        max_record_bytes: the longest record that is accepted.

    Raises:
        ObjectDecodeError: a quote is open at the end, or a record is too long.
    """
    if start == 0 and form.encoding == UTF_8:
        start, blocks = _skip_mark(iter(blocks))
    reading = _Reading(form, start, source, max_record_bytes)
    pieces: list[bytes] = []
    waiting = 0
    for block in blocks:
        pieces.append(block)
        waiting += len(block)
        # A long record is read again when twice as much of it is there, not with every block.
        if waiting < len(reading.rest):
            continue
        yield from reading.read(b"".join([reading.rest, *pieces]), ends=False)
        pieces, waiting = [], 0
        if len(reading.rest) > max_record_bytes:
            raise record_too_long(reading.position, source, max_record_bytes)
    data = b"".join([reading.rest, *pieces])
    if data:
        yield from reading.read(data, ends=ends)
    if ends and reading.rest:
        raise unclosed_quote(reading.position + opening_quote(reading.rest, form), source)


def _skip_mark(blocks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    """Return the length of the byte order mark at the start, and the blocks after it."""
    first = b""
    while len(first) < len(BOM) and (block := next(blocks, b"")):
        first += block
    start = len(BOM) if first.startswith(BOM) else 0
    return start, chain([first[start:]], blocks)


class _Reading:
    """Where the reader is: ``position`` and ``line`` are those of ``rest``, the bytes not yet split."""

    def __init__(self, form: CsvForm, start: int, source: str, max_record_bytes: int) -> None:
        self.rest = b""
        self.position = start
        self._line = 0
        self._form = form
        self._source = source
        self._max_record_bytes = max_record_bytes

    def read(self, data: bytes, *, ends: bool) -> Iterator[RecordBatch]:
        """Yield the complete records of what is waiting, and keep the rest."""
        data = self._skip_blank_lines(data, ends=ends)
        start = self.position
        # What follows a carriage return decides whether the line ends there.
        stop = len(data) if ends else max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        for batch in self._batches(data[:stop]):
            if len(data) > self._max_record_bytes:
                self._check_lengths(batch)
            if batch.rows:
                yield batch
        self.rest = data[self.position - start :]

    def _skip_blank_lines(self, data: bytes, *, ends: bool) -> bytes:
        """Skip them before they become rows: a gzip of a few kilobytes can contain gigabytes of them."""
        left = data.lstrip(b"\r\n")
        if not left and data.endswith(b"\r") and not ends:
            left = b"\r"
        skipped = len(data) - len(left)
        self.position += skipped
        self._line += count_breaks(data[:skipped])
        return left

    def _batches(self, data: bytes) -> Iterator[RecordBatch]:
        lines, sizes, is_valid = self._lines(data)
        lines.append(_SENTINEL)
        done, before, has_breaks = 0, 0, False
        rows_of: Callable[[Iterable[str]], RowReader] = self._form.rows
        reader = rows_of(lines)
        while done < len(sizes):
            try:
                rows, numbers = _take(reader, before) if has_breaks else (list(islice(reader, _BATCH)), None)
            except csv.Error:
                rows_of = self._long_rows
                reader, before = rows_of(_from(lines, done)), 0
                continue
            count, before = reader.line_num - before, reader.line_num
            if count == len(rows):
                numbers = range(count + 1)
            elif numbers is None:
                has_breaks = True
                _, numbers = _take(rows_of(_from(lines, done)), 0)
            if done + count > len(sizes):
                # The last row is the sentinel, or one that a quote leaves open.
                rows.pop()
                numbers = numbers[:-1]
            offsets = list(accumulate(sizes[done : done + count], initial=self.position))
            if count != len(rows):
                offsets = [offsets[number] for number in numbers]
            done += count
            first = self._line
            self._line, self.position = first + numbers[-1], offsets[-1]
            yield RecordBatch(offsets, first, numbers, rows, is_valid)

    def _lines(self, data: bytes) -> tuple[list[str], list[int], bool]:
        """Return the lines, their sizes in bytes, and whether all bytes are valid."""
        is_valid = True
        try:
            text = data.decode(self._form.encoding)
        except UnicodeDecodeError:
            is_valid = False
            text = data.decode(self._form.encoding, MARK_BAD_BYTES)
        # Unlike str.splitlines, these split lines only at CR and LF.
        lines = list(StringIO(text, newline=""))
        sizes = lines if len(text) == len(data) else data.splitlines(keepends=True)
        return lines, list(map(len, sizes)), is_valid

    def _long_rows(self, lines: Iterable[str]) -> RowReader:
        return StateReader(lines, self._form)

    def _check_lengths(self, batch: RecordBatch) -> None:
        for start, end in pairwise(batch.offsets):
            if end - start > self._max_record_bytes:
                raise record_too_long(start, self._source, self._max_record_bytes)


def _take(reader: RowReader, before: int) -> tuple[list[list[str]], Sequence[int]]:
    """Read rows; return them, and the number of lines up to each and up to the end of the last."""
    rows, numbers = [], [0]
    for row in islice(reader, _BATCH):
        rows.append(row)
        numbers.append(reader.line_num - before)
    return rows, numbers


def _from(lines: list[str], start: int) -> Iterator[str]:
    """Return the lines from one on; without a copy of them, or a walk to it."""
    return map(lines.__getitem__, range(start, len(lines)))


def count_breaks(data: bytes) -> int:
    """Return the number of line breaks, of any kind."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def opening_quote(data: bytes, form: CsvForm) -> int:
    """Return where the last quoted field opens; ``data`` begins with a record."""
    quote, delimiter = re.escape(form.quote.encode()), re.escape(form.delimiter.encode())
    fields = re.compile(rb"%b(?<![^%b\r\n]%b)[^%b]*+(?:%b%b[^%b]*+)*+%b?+" % (quote, delimiter, *[quote] * 6))
    return max((match.start() for match in fields.finditer(data)), default=0)


def record_too_long(offset: int, source: str, max_record_bytes: int) -> ObjectDecodeError:
    """Return the error for a record that is too long."""
    return ObjectDecodeError(
        f"The row at byte {offset} of {source} is longer than {max_record_bytes} bytes. Look for a quote "
        "that is not closed; if there are no quoted fields, set itemReader.csv.quote to an empty string."
    )


def unclosed_quote(offset: int, source: str) -> ObjectDecodeError:
    """Return the error for a quote that nothing closes."""
    return ObjectDecodeError(
        f"The quote at byte {offset} of {source} is not closed. Close it, or double a quote that is part of "
        "a field; if there are no quoted fields, set itemReader.csv.quote to an empty string."
    )
