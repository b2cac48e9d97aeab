"""CSV and TSV as items: one object a row, whose values are strings."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from airflow_allma.engine.readers.csv_bytes import is_plain, plain_blocks, spool
from airflow_allma.engine.readers.csv_form import UTF_8, CsvForm
from airflow_allma.engine.readers.csv_items import LinesBefore, read_header, row_items
from airflow_allma.engine.readers.csv_ranges import record_ranges
from airflow_allma.engine.readers.csv_records import RecordBatch, read_records
from airflow_allma.engine.readers.format_reader import MAX_COUNTED_BYTES, ItemBatch, ItemPlace, Source, Split
from airflow_allma.engine.readers.read_estimate import ReadEstimate, chunks_by_bytes
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectInfo, ObjectStore
from airflow_allma.storage.compression import MAX_UNPACK_RATIO
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.jsonl import MAX_LINE_BYTES
from airflow_allma.storage.manifest_format import START_BYTES

__all__ = ["CsvReader"]

_BLOCK_BYTES: Final = 256 << 10
"""Bytes read at once: lines that wait to become rows take several times their own size."""
_MAX_SEARCHED_ROWS: Final = 100_000
"""As many rows are read to find one."""
_LATIN_1: Final = "iso8859-1"


class CsvReader:
    """Reads CSV by ranges of whole records; what cannot be split as it is, is written as UTF-8 first."""

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Split records by bytes, in one pass over an object of several ranges; without quotes in none."""
        info, form = source.object_info, CsvForm.of(source)
        if not is_plain(source, form):
            info, form = _spooled(store, source, form, split), form.in_utf_8()
        start = _first_record(store, info, form)
        if start is None:
            return ManifestPlan(info, ())
        ranges = record_ranges(
            store, info, form, start=start, range_bytes=split.range_bytes, max_ranges=split.max_ranges
        )
        reader = form.to_reader(start)
        planned = [
            ManifestRange(number, info.pointer, info.etag, info.size, one, reader)
            for number, one in enumerate(ranges)
        ]
        return ManifestPlan(info, tuple(planned))

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:  # noqa: ARG002 - as the others
        """Return the ranges of records, and the pass over the object that finds where they begin."""
        info, form = source.object_info, CsvForm.of(source)
        packed = f" compressed with {source.compression}" if source.compression else ""
        content = ("TSV" if form.delimiter == "\t" else "CSV") + packed
        look = min(START_BYTES, info.size)
        if not is_plain(source, form):
            return ReadEstimate(content, look + 2 * info.size, 4, written_first=True)
        is_scanned = bool(form.quote) and info.size > split.range_bytes
        is_counted = info.size <= MAX_COUNTED_BYTES
        return ReadEstimate(
            content,
            look + info.size * (is_scanned + is_counted),
            2 + is_scanned + is_counted,
            chunks=chunks_by_bytes(info.size, split.range_bytes, split.max_ranges),
            most_chunks=True,
            size=info.size,
        )

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Generator[ItemBatch, None, None]:
        """Yield the rows of a range as objects."""
        form = CsvForm.from_reader(lines.reader or {})
        names = _names(store, lines, form)
        with closing(_records(store, lines, form)) as records:
            yield from row_items(records, names, form, str(lines.pointer), LinesBefore(store, lines))

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield all rows; the object is read once."""
        info, form = source.object_info, CsvForm.of(source)
        name = str(info.pointer)
        with closing(store.stream(info.pointer, if_match=info.etag, block_bytes=_BLOCK_BYTES)) as blocks:
            plain = plain_blocks(blocks, source, form, max_unpack_ratio)
            form = form if form.has_plain_bytes else form.in_utf_8()
            records: Iterator[RecordBatch] = read_records(plain, form, source=name)
            names: Sequence[str] | None = form.names
            if names is None:
                header = read_header(records, form, name)
                if header is None:
                    return
                names, records = header.names, header.others
            yield from row_items(records, names, form, name, 0)

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the rows; makes no objects of them."""
        # Every byte is a character of Latin-1: nothing can be invalid.
        form = replace(CsvForm.from_reader(lines.reader or {}), encoding=_LATIN_1)
        with closing(_records(store, lines, form)) as records:
            return sum(len(batch.rows) - batch.rows.count([]) for batch in records)

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:  # noqa: ARG002 - as the others
        """Return the byte at which a row begins."""
        return {"byteOffset": offset}

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:
        """Return the byte at which a row begins, by reading the rows before it."""
        if item >= _MAX_SEARCHED_ROWS:
            return None
        with closing(self.batches(store, lines)) as batches:
            for first, offsets, _ in batches:
                if item < first + len(offsets):
                    return offsets[item - first]
                if offsets[-1] - lines.range.start > max_bytes:
                    return None
        return None

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Read the row that begins at a byte."""
        form = CsvForm.from_reader(lines.reader or {})
        name = str(lines.pointer)
        end = min(offset + max_bytes, lines.range.end)
        data = store.read(lines.pointer, offset, end, if_match=lines.etag)
        records = read_records([data], form, start=offset, ends=end == lines.range.end, source=name)
        items = row_items(records, _names(store, lines, form), form, name, None)
        batch = next(items, None)
        if batch is None:
            return None
        return ItemPlace(batch.items[0], {"pointer": lines.pointer.uri, "byte": offset})


def _spooled(store: ObjectStore, source: Source, form: CsvForm, split: Split) -> ObjectInfo:
    if split.spool is None:
        kind = f"compressed with {source.compression}" if source.compression else f"in {form.encoding}"
        raise StorageConfigurationError(
            f"{source.pointer} is CSV {kind}, which must be converted before it can be split. Set "
            "offload_location to a location for the result, or use CSV in UTF-8 without compression."
        )
    info = source.object_info
    with closing(store.stream(info.pointer, if_match=info.etag)) as blocks:
        plain = plain_blocks(blocks, source, form, split.max_unpack_ratio)
        return spool(store, plain, split.spool("rows", ".csv"))


def _first_record(store: ObjectStore, info: ObjectInfo, form: CsvForm) -> int | None:
    """Return where the first record below the header begins; None without a header."""
    if form.names is not None:
        start = store.read(info.pointer, 0, len(BOM), if_match=info.etag) if form.encoding == UTF_8 else b""
        return len(BOM) if start == BOM else 0
    name = str(info.pointer)
    with closing(store.stream(info.pointer, if_match=info.etag, block_bytes=_BLOCK_BYTES)) as blocks:
        header = read_header(read_records(blocks, form, source=name), form, name)
    if header is not None and header.end > MAX_LINE_BYTES:
        raise ObjectDecodeError(
            f"The header of {name} ends at byte {header.end}, after more than {MAX_LINE_BYTES} bytes. Remove "
            "the blank lines before it."
        )
    return None if header is None else header.end


def _names(store: ObjectStore, lines: ManifestRange, form: CsvForm) -> Sequence[str]:
    if form.names is not None:
        return form.names
    name = str(lines.pointer)
    data = store.read(lines.pointer, 0, (lines.reader or {})["header"], if_match=lines.etag)
    header = read_header(read_records([data], form, source=name), form, name)
    if header is None:
        raise ObjectDecodeError(f"{name} has no header.")
    return header.names


def _records(store: ObjectStore, lines: ManifestRange, form: CsvForm) -> Generator[RecordBatch, None, None]:
    start, end = lines.range
    blocks = store.stream(lines.pointer, start, end, if_match=lines.etag, block_bytes=_BLOCK_BYTES)
    with closing(blocks):
        yield from read_records(blocks, form, start=start, source=str(lines.pointer))
