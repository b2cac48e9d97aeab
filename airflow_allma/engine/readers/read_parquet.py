"""The rows of Parquet as items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers.format_reader import ItemBatch, ItemPlace, Source, Split
from airflow_allma.engine.readers.parquet_file import (
    ObjectFile,
    open_parquet,
    optional_module,
    parquet_errors,
)
from airflow_allma.engine.readers.parquet_values import RowReader, UnreadableColumnError
from airflow_allma.engine.readers.read_estimate import ChunkCost, ReadEstimate
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectStore
from airflow_allma.storage.compression import FREE_BYTES, MAX_UNPACK_RATIO
from airflow_allma.storage.manifest_format import START_BYTES
from airflow_allma.storage.manifest_ranges import ByteRange

__all__ = ["ParquetReader"]

_BATCH_ROWS: Final = 4096
_BATCH_BYTES: Final = 4 << 20
"""Of a batch of rows, as they are encoded: as Python objects they take several times as much."""
_LEAST_BYTES: Final = 8
"""What a value takes at least once it is read: equal values are encoded in less."""
_MAX_CHUNKS_LOOKED_AT: Final = 200_000
"""Column chunks whose sizes are added up; beyond it, the sizes of row groups are estimated."""
_SHOWN_COLUMNS: Final = 20
_MAX_NAME: Final = 60


class ParquetReader:
    """Reads rows by ranges of row groups. ``range`` counts row groups, an item's offset its row, from 0."""

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Split row groups into ranges of about the same compressed size; reads the footer only."""
        whole = _whole(source)
        with closing(_Table(store, whole)) as table:
            table.check_ratio(split.max_unpack_ratio)
            bounds = _split(table.sizes(), split.range_bytes, split.max_ranges) if table.rows else []
            ranges = tuple(
                ManifestRange(
                    number,
                    whole.pointer,
                    whole.etag,
                    whole.size,
                    groups,
                    whole.reader,
                    sum(table.group_rows[groups.start : groups.end]),
                )
                for number, groups in enumerate(bounds)
            )
        return ManifestPlan(source.object_info, ranges)

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:
        """Return the ranges of row groups with their rows; reads the footer only."""
        whole = _whole(source)
        with closing(_Table(store, whole)) as table:
            sizes, rows = table.sizes(), table.group_rows
            bounds = _split(sizes, split.range_bytes, split.max_ranges) if table.rows else []
            chunks = [
                ChunkCost(
                    f"row groups {one.start}-{one.end - 1}",
                    sum(sizes[one.start : one.end]),
                    sum(rows[one.start : one.end]),
                )
                for one in bounds
            ]
            return ReadEstimate(
                "Parquet",
                min(START_BYTES, whole.size) + table.footer_bytes,
                4,
                chunks=chunks,
                items=table.rows,
                size=sum(sizes),
            )

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
        """Yield the rows of a range of row groups."""
        with closing(_Table(store, lines)) as table:
            table.check_range(lines.range)
            row = sum(table.group_rows[: lines.range.start])
            yield from _items(table, lines.range, row)

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield all rows."""
        with closing(_Table(store, _whole(source))) as table:
            table.check_ratio(max_unpack_ratio)
            yield from _items(table, ByteRange(0, len(table.group_rows)), 0)

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the rows, by the footer."""
        with closing(_Table(store, lines)) as table:
            table.check_range(lines.range)
            return sum(table.group_rows[lines.range.start : lines.range.end])

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:  # noqa: ARG002 - as the others
        """Return the number of a row in its object, from 0."""
        return {"rowNumber": offset}

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:  # noqa: ARG002 - as the others
        """Return the number of a row in its object, by the footer."""
        if item >= (lines.items or 0):
            return None
        with closing(_Table(store, lines)) as table:
            table.check_range(lines.range)
            first: int = sum(table.group_rows[: lines.range.start])
            return first + item

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Read a row again, with the rows before it in its row group."""
        with closing(_Table(store, lines)) as table:
            group, first = table.place_of(offset)
            if max(table.group_bytes(group)) > max_bytes:
                return None
            for batch in table.record_batches(group):
                if offset < first + batch.num_rows:
                    [value] = table.read_rows(batch.slice(offset - first, 1), offset)
                    return ItemPlace(value, {"pointer": lines.pointer.uri, "row": offset})
                first += batch.num_rows
        return None


def _whole(source: Source) -> ManifestRange:
    if source.compression is not None:
        raise ObjectDecodeError(
            f"{source.pointer} is compressed with {source.compression} as a whole, so its row groups cannot "
            "be read one by one. Store it without: Parquet compresses its columns itself."
        )
    info, columns = source.object_info, source.options.columns
    reader = {"format": "PARQUET", **({"columns": list(columns)} if columns else {})}
    return ManifestRange(0, info.pointer, info.etag, info.size, ByteRange(0, 0), reader)


def _split(sizes: Sequence[int], range_bytes: int, max_ranges: int) -> list[ByteRange]:
    """Split row groups into contiguous ranges: each belongs to the range in which its first byte is."""
    total = max(sum(sizes), 1)
    count = min(-(-total // range_bytes), max_ranges)
    firsts: list[int] = []
    last = -1
    before = 0
    for group, size in enumerate(sizes):
        number = min(before * count // total, count - 1)
        if number != last:
            firsts.append(group)
            last = number
        before += size
    return [ByteRange(*bounds) for bounds in zip(firsts, [*firsts[1:], len(sizes)], strict=True)]


def _items(table: _Table, groups: ByteRange, row: int) -> Iterator[ItemBatch]:
    first = 0
    for group in range(*groups):
        for batch in table.record_batches(group):
            items = table.read_rows(batch, row + first)
            yield ItemBatch(first, list(range(row + first, row + first + len(items))), items)
            first += len(items)


class _Table:
    """An open object, and the columns that are read of it.

    Args:
        store: the store.
        lines: the object; its range does not matter.

    Raises:
        StorageError: it cannot be read, or not as items.
    """

    def __init__(self, store: ObjectStore, lines: ManifestRange) -> None:
        self._source = str(lines.pointer)
        self._size = lines.size
        self._object = ObjectFile(store, lines)
        names = (lines.reader or {}).get("columns") or ()
        self._file = open_parquet(self._object, lines, len(names) or None)
        with parquet_errors(self._object, self._source, "The footer"):
            self._metadata = self._file.metadata
            schema = self._file.schema_arrow
            numbers = range(self._metadata.num_row_groups)
            self.group_rows = [self._metadata.row_group(number).num_rows for number in numbers]
            types = [_type_name(self._file.schema.column(leaf)) for leaf in range(self._metadata.num_columns)]
        if any(rows < 0 for rows in self.group_rows):
            raise ObjectDecodeError(
                f"{self._source} is not valid Parquet: a row group has less than no rows."
            )
        chosen = self._choose(schema.names, names)
        self._names = [schema.names[number] for number in chosen] if names else None
        pyarrow, compute = (optional_module(name, self._source) for name in ("pyarrow", "pyarrow.compute"))
        try:
            self._reader = RowReader(pyarrow, compute, schema, types, chosen)
        except UnreadableColumnError as error:
            raise ObjectDecodeError(
                f"{self._source}: {error}. Name the other columns in itemReader.columns, or write it with "
                "another type or name."
            ) from error

    def close(self) -> None:
        """Free what pyarrow holds."""
        self._file.close()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.group_rows)

    @property
    def footer_bytes(self) -> int:
        """The bytes of the footer, with its length and the mark at the end."""
        return int(self._metadata.serialized_size) + 8

    def check_range(self, groups: ByteRange) -> None:
        """Check a planned range.

        Raises:
            ObjectDecodeError: the object does not have these row groups.
        """
        if not 0 <= groups.start <= groups.end <= len(self.group_rows):
            raise ObjectDecodeError(
                f"{self._source} has {len(self.group_rows)} row groups, {groups.start} to {groups.end} were "
                "planned. Plan again."
            )

    def check_ratio(self, max_ratio: int) -> None:
        """Check how much larger the columns are than the object.

        Raises:
            ObjectDecodeError: more than ``max_ratio`` times; 0 means no limit.
        """
        plain = sum(
            self._metadata.row_group(number).total_byte_size for number in range(len(self.group_rows))
        )
        if max_ratio and plain > max(FREE_BYTES, self._size * max_ratio):
            raise ObjectDecodeError(
                f"{self._source} unpacks to more than {max_ratio} times its size: {self._size} bytes are "
                f"{plain} bytes. Check what it contains; if it is right, increase [allma] max_unpack_ratio."
            )

    def place_of(self, row: int) -> tuple[int, int]:
        """Return the row group that has a row, and the number of its first row.

        Raises:
            ObjectDecodeError: there is no such row.
        """
        first = 0
        for group, rows in enumerate(self.group_rows):
            if row < first + rows:
                return group, first
            first += rows
        raise ObjectDecodeError(f"{self._source} has no row {row}: it has {first} rows.")

    def sizes(self) -> list[int]:
        """Return the compressed size of each row group, of the columns that are read."""
        if len(self._reader.leaves) * len(self.group_rows) <= _MAX_CHUNKS_LOOKED_AT:
            return [self.group_bytes(number)[0] for number in range(len(self.group_rows))]
        return [self._size * rows // max(self.rows, 1) for rows in self.group_rows]

    def group_bytes(self, group: int) -> tuple[int, int]:
        """Return the size of a row group, of the columns that are read: compressed, and in memory."""
        packed = plain = 0
        metadata = self._metadata.row_group(group)
        for leaf in self._reader.leaves:
            column = metadata.column(leaf)
            packed += max(column.total_compressed_size, 0)
            plain += max(column.total_uncompressed_size, column.num_values * _LEAST_BYTES)
        return packed, plain

    def record_batches(self, group: int) -> Iterator[Any]:
        """Yield the rows of a row group, in batches of a limited size.

        Raises:
            StorageError: it cannot be read.
        """
        rows = self.group_rows[group]
        if not rows:
            return
        where = f"Row group {group}"
        with parquet_errors(self._object, self._source, where):
            row_bytes = max(self.group_bytes(group)[1] // rows, 1)
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            batches = self._file.iter_batches(
                size, row_groups=[group], columns=self._names, use_threads=False
            )
        left = rows
        while True:
            with parquet_errors(self._object, self._source, where):
                batch = next(batches, None)
            left -= batch.num_rows if batch is not None else 0
            if left < 0 or (batch is None and left):
                raise ObjectDecodeError(
                    f"{where} of {self._source} is not valid Parquet: it should have {rows} rows, and has "
                    f"{'more' if left < 0 else rows - left}. Write the object again."
                )
            if batch is None:
                return
            if batch.num_rows:
                yield batch

    def read_rows(self, batch: Any, row: int) -> list[Any]:
        """Return the rows of a batch; an ``ItemError`` for one with a value that JSON does not have.

        Args:
            batch: what ``record_batches`` yielded, or a part of it.
            row: the number of its first row.

        Raises:
            ObjectDecodeError: it cannot be converted.
        """
        with parquet_errors(
            self._object, self._source, f"Row {row} or one of the {batch.num_rows} from there on"
        ):
            rows, bad = self._reader.rows(batch)
        for number, (column, reason) in bad.items():
            message = f"Row {row + number}: column {column} of {self._source}: {reason}."
            rows[number] = ItemError(
                step_error_from(ObjectDecodeError(message), details={"rowNumber": row + number})
            )
        return rows

    def _choose(self, known: Sequence[str], names: Sequence[str]) -> list[int]:
        """Return the numbers of the columns that are read."""
        unknown = set(names).difference(known)
        for name in names:
            if name in unknown:
                guess = nearest(name, known)
                shown = ", ".join(map(_quoted, known[:_SHOWN_COLUMNS]))
                more = f" and {len(known) - _SHOWN_COLUMNS} more" if len(known) > _SHOWN_COLUMNS else ""
                raise ObjectDecodeError(
                    f"{self._source} has no column {_quoted(name)}, which itemReader.columns names"
                    f"{f'; did you mean {_quoted(guess)}?' if guess else '.'} It has {shown or 'none'}{more}."
                )
        wanted = set(names)
        chosen = [number for number, name in enumerate(known) if not wanted or name in wanted]
        seen: set[str] = set()
        for number in chosen:
            if known[number] in seen:
                raise ObjectDecodeError(
                    f"{self._source} has two columns named {_quoted(known[number])}. Rename one of them, or "
                    "name other columns in itemReader.columns."
                )
            seen.add(known[number])
        return chosen


def _type_name(column: Any) -> str:
    if column.converted_type == "INTERVAL":
        return "INTERVAL"
    return str(column.logical_type.type)


def _quoted(name: str) -> str:
    return repr(shortened(printable(name), _MAX_NAME))
