"""From the records of CSV to items: objects by the names of the header, and the errors of bad rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, Final, NamedTuple

from airflow_allma.common.printable import printable
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers.csv_form import CsvForm
from airflow_allma.engine.readers.csv_records import BAD_BYTES, RecordBatch, count_breaks
from airflow_allma.engine.readers.format_reader import ItemBatch
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import ManifestRange, ObjectStore

__all__ = ["Header", "LinesBefore", "read_header", "row_items"]

_MAX_COUNTED_BYTES: Final = 1 << 30
"""How far into an object line breaks are counted, to report the number of a bad row."""
_MAX_SHOWN: Final = 100


class Header(NamedTuple):
    """The row that names the fields.

    Attributes:
        names: the names; all differ.
        end: the byte at which the row ends.
        others: the records after it.
    """

    names: Sequence[str]
    end: int
    others: Iterator[RecordBatch]


def read_header(records: Iterator[RecordBatch], form: CsvForm, source: str) -> Header | None:
    """Read the first row that is not blank; None if there is none.

    Args:
        records: all records of an object.
        form: how they are read.
        source: names the object in errors.

    Raises:
        ObjectDecodeError: a name is there twice, or there are no names.
    """
    for batch in records:
        index = next((index for index, row in enumerate(batch.rows) if row), None)
        if index is None:
            continue
        names, offset, end = batch.rows[index], batch.offsets[index], batch.offsets[index + 1]
        _check_names(names, form, f"The header at byte {offset} of {source}")
        after = RecordBatch(
            batch.offsets[index + 1 :],
            batch.line,
            batch.lines[index + 1 :],
            batch.rows[index + 1 :],
            batch.is_valid,
        )
        return Header(names, end, chain([after], records))
    return None


def _check_names(names: list[str], form: CsvForm, header: str) -> None:
    if any(BAD_BYTES in name for name in names):
        raise ObjectDecodeError(
            f"{header} has bytes that are not valid {form.original_encoding}. Set itemReader.csv.encoding to "
            "the encoding of the file."
        )
    if not any(names):
        raise ObjectDecodeError(
            f"{header} has no names. Write the names of the fields into it, or give them in "
            "itemReader.csv.header."
        )
    if len(set(names)) < len(names):
        (twice, _), *_ = Counter(names).most_common(1)
        raise ObjectDecodeError(
            f"{header} has the name {printable(twice[:_MAX_SHOWN])!r} twice. Rename one of the fields, or "
            "remove the header and give the names in itemReader.csv.header."
        )


class LinesBefore:
    """Counts the line breaks before a range, once, when the number of a line is needed.

    Args:
        store: holds the object.
        lines: the range.
    """

    def __init__(self, store: ObjectStore, lines: ManifestRange) -> None:
        self._store = store
        self._lines = lines
        self._breaks: int | None = None

    def count(self) -> int | None:
        """Return the number of line breaks; None if the range begins too far into the object.

        Raises:
            StorageError: the object cannot be read, or has changed.
        """
        end = self._lines.range.start
        if end > _MAX_COUNTED_BYTES:
            return None
        if self._breaks is None:
            self._breaks, last = 0, b""
            with closing(
                self._store.stream(self._lines.pointer, 0, end, if_match=self._lines.etag)
            ) as blocks:
                for block in blocks:
                    # A line break can extend over two blocks.
                    self._breaks += count_breaks(last + block) - count_breaks(last)
                    last = block[-1:]
        return self._breaks


def row_items(
    records: Iterable[RecordBatch],
    names: Sequence[str],
    form: CsvForm,
    source: str,
    before: LinesBefore | int | None,
) -> Iterator[ItemBatch]:
    """Yield the rows as objects; an ``ItemError`` for one that does not fit the names. No batch is empty.

    Args:
        records: the records below the header.
        names: the names of the fields.
        form: how the records are read.
        source: names the object in errors.
        before: the line breaks before the first record; None if they are not known.
    """
    make = _Rows(names, form, source, before)
    width, first = {len(names)}, 0
    for batch in records:
        if batch.is_valid and set(map(len, batch.rows)) == width:
            offsets = batch.offsets[:-1]
            items: list[Any] = [dict(zip(names, row)) for row in batch.rows]  # noqa: B905 - faster
        else:
            offsets, items = make.items(batch)
        if items:
            yield ItemBatch(first, offsets, items)
            first += len(items)


class _Rows:
    """Makes objects of rows that need not all be right."""

    def __init__(
        self, names: Sequence[str], form: CsvForm, source: str, before: LinesBefore | int | None
    ) -> None:
        self._names = names
        self._form = form
        self._source = source
        self._before = before

    def items(self, batch: RecordBatch) -> tuple[list[int], list[Any]]:
        """Return the offsets and the items of the rows that are not blank."""
        offsets, items = [], []
        for offset, line, row in zip(batch.offsets[:-1], batch.lines[:-1], batch.rows, strict=True):
            if row:
                offsets.append(offset)
                items.append(self._item(row, offset, batch.line + line, is_valid=batch.is_valid))
        return offsets, items

    def _item(self, row: list[str], offset: int, line: int, *, is_valid: bool) -> Any:
        if not is_valid and any(BAD_BYTES in field for field in row):
            return self._error(
                f"has bytes that are not valid {self._form.original_encoding}. Correct them, or set "
                "itemReader.csv.encoding to the encoding of the file.",
                offset,
                line,
            )
        if len(row) != len(self._names):
            return self._error(
                f"has {_count(len(row), 'field')}, but the header has {_count(len(self._names), 'name')}. "
                f"Correct the row; quote each field that contains {self._form.delimiter!r}.",
                offset,
                line,
            )
        return dict(zip(self._names, row, strict=True))

    def _error(self, what: str, offset: int, line: int) -> ItemError:
        before = self._before.count() if isinstance(self._before, LinesBefore) else self._before
        number = None if before is None else before + line + 1
        details = {"byteOffset": offset, **({"lineNumber": number} if number is not None else {})}
        where = f"Line {number}: " if number is not None else ""
        message = f"{where}The row at byte {offset} of {self._source} {what}"
        return ItemError(step_error_from(ObjectDecodeError(message), details=details))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
