"""JSON Lines and JSON arrays as items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final, Protocol

from airflow_allma.common.printable import printable
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers.format_reader import MAX_COUNTED_BYTES, ItemBatch, ItemPlace, Source, Split
from airflow_allma.engine.readers.read_estimate import ReadEstimate, chunks_by_bytes
from airflow_allma.exceptions import ExpressionSyntaxError, ObjectDecodeError, StorageConfigurationError
from airflow_allma.expressions import compile_path
from airflow_allma.flow.steps.item_reader import ItemFormat
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectInfo, ObjectStore, plan_manifest
from airflow_allma.storage.compression import MAX_UNPACK_RATIO, decompressed
from airflow_allma.storage.decoding import BOM, decode_line, decode_lines
from airflow_allma.storage.jsonl import Line, LineBatch, batch_lines, read_line_batches, split_lines
from airflow_allma.storage.line_counter import LineCounter
from airflow_allma.storage.manifest_format import START_BYTES, ManifestFormat, elements_of, format_of

__all__ = ["JsonReader"]

_DECODE_BATCH: Final = 256
"""Lines decoded at once: as many as stay in a processor's cache until they run, and never more than a block
of the object holds."""
_BLOCK_BYTES: Final = 256 << 10
"""Bytes read at once: lines that wait to be decoded take several times their own size."""
_MAX_COUNTED_BYTES: Final = 1 << 30
"""How far into an object line breaks are counted, to report the number of a bad line."""


class JsonReader:
    """Reads JSON Lines by ranges; arrays, and what is compressed, are written as JSON Lines first."""

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Split lines by bytes: the plan costs no more than what ``source`` already knows."""
        info = source.object_info
        return plan_manifest(
            store,
            source.pointer,
            range_bytes=split.range_bytes,
            max_ranges=split.max_ranges,
            spool_to=split.spool("lines", ".jsonl") if split.spool else None,
            max_unpack_ratio=split.max_unpack_ratio,
            known=(info, _format_of(info, source)),
        )

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:  # noqa: ARG002 - as the others
        """Return the ranges of lines, or what has to be read and written first."""
        info = source.object_info
        found = _format_of(info, source)
        look = min(START_BYTES, info.size)
        if not found.is_splittable:
            return ReadEstimate(str(found), look + info.size, 3, written_first=True)
        counted = info.size if info.size <= MAX_COUNTED_BYTES else 0
        return ReadEstimate(
            str(found),
            look + counted,
            3 if counted else 2,
            chunks=chunks_by_bytes(info.size, split.range_bytes, split.max_ranges),
            most_chunks=bool(counted),
            size=info.size,
        )

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
        """Yield the items of a range of JSON Lines."""
        with closing(read_line_batches(store, lines, block_bytes=_BLOCK_BYTES)) as batches:
            counter = LineCounter(store, lines.pointer, lines.etag, max_bytes=_MAX_COUNTED_BYTES)
            yield from _items(batches, str(lines.pointer), counter)

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield all lines, or all elements of an array."""
        info = source.object_info
        found = _format_of(info, source)
        if found.is_splittable:
            yield from self.batches(store, ManifestRange.whole(info))
            return
        name = str(info.pointer)
        with closing(store.stream(info.pointer, if_match=info.etag)) as blocks:
            plain = decompressed(blocks, name, found.compression, max_ratio=max_unpack_ratio)
            if found.is_array:
                yield from _items(batch_lines(elements_of(plain, found, name)), name, None)
            else:
                counter = _StreamCounter()
                yield from _items(split_lines(counter.track(plain), source=name), name, counter)

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the lines; decodes none of them."""
        return sum(len(batch.lines) for batch in read_line_batches(store, lines))

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:  # noqa: ARG002 - as the others
        """Return the byte at which a line begins."""
        return {"byteOffset": offset}

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:
        """Return the byte at which a line begins, by counting lines."""
        counted = 0
        with closing(read_line_batches(store, lines, block_bytes=_BLOCK_BYTES)) as batches:
            for batch in batches:
                if item < counted + len(batch.offsets):
                    return batch.offsets[item - counted]
                counted += len(batch.offsets)
                if batch.offsets[-1] - lines.range.start > max_bytes:
                    return None
        return None

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Read the line that begins at a byte."""
        data = store.read(lines.pointer, offset, offset + max_bytes, if_match=lines.etag)
        line, newline, _ = data.partition(b"\n")
        if not newline and len(data) == max_bytes:
            return None
        line = line.removesuffix(b"\r")
        if not offset:
            line = line.removeprefix(BOM)
        value = _decoded(Line(offset, line), str(lines.pointer), None)
        return ItemPlace(value, {"pointer": lines.pointer.uri, "byte": offset})


def _format_of(info: ObjectInfo, source: Source) -> ManifestFormat:
    """Return the form of JSON: as the flow says, else by the object's first bytes.

    Raises:
        StorageConfigurationError: ``itemsAt`` is no path of names and indexes.
    """
    options = source.options
    if options.items_at is not None:
        try:
            keys = compile_path(options.items_at).plain_keys
        except ExpressionSyntaxError as error:
            raise StorageConfigurationError(f"itemReader.itemsAt: {error}") from error
        if keys is None:
            raise StorageConfigurationError(
                f"itemReader.itemsAt is {printable(options.items_at)!r}: it must have only names and "
                "indexes, such as $.data.rows, because the document is read as a stream."
            )
        return ManifestFormat(is_array=True, compression=source.compression, keys=keys)
    if options.format is ItemFormat.JSONL:
        return ManifestFormat(compression=source.compression)
    return format_of(info, source.start, source.compression)


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
