"""The objects below a prefix as items, with or without their contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from airflow_allma.engine.readers.format_reader import ItemBatch, ItemPlace, ReaderOf, Source, Split
from airflow_allma.engine.readers.object_contents import add_contents, load_item
from airflow_allma.engine.readers.object_listing import list_items, require_spool
from airflow_allma.engine.readers.read_estimate import (
    LISTED_PER_REQUEST,
    MAX_LISTED,
    ChunkCost,
    ReadEstimate,
)
from airflow_allma.engine.readers.read_files import FilesReader
from airflow_allma.engine.readers.read_json import JsonReader
from airflow_allma.flow.steps.item_reader import ItemFormat, ObjectRead
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectStore
from airflow_allma.storage.compression import MAX_UNPACK_RATIO
from airflow_allma.storage.line_groups import LineGroups
from airflow_allma.storage.object_store import JSON_LINES_TYPE

__all__ = ["ObjectsReader"]


class ObjectsReader:
    """Lists objects to JSON Lines, and reads ranges of that list with the contents of its objects.

    Args:
        reader_of: finds the readers of the files, for LINES.
    """

    def __init__(self, reader_of: ReaderOf) -> None:
        self._lines = JsonReader()
        self._files = FilesReader(reader_of)
        self._streams_files = False

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Write one line an object; a range has about the same bytes of lines and contents as another."""
        read = source.options.read
        if read is ObjectRead.LINES:
            return self._files.plan(store, source, split)
        groups = LineGroups(split.range_bytes, split.max_ranges)
        target = require_spool(split, source, "objects")
        with store.open_writer(target, content_type=JSON_LINES_TYPE) as writer:
            for batch, lines in list_items(store, source):
                writer.write(b"".join(lines))
                for line, item in zip(lines, batch.items, strict=True):
                    groups.add(len(line), len(line) if read is None else len(line) + item["size"])
        info = writer.info
        reader: dict[str, Any] | None = None
        if read is not None:
            reader = {"format": ItemFormat.OBJECTS.value, "read": read.value}
            if split.max_unpack_ratio != MAX_UNPACK_RATIO:
                reader["maxUnpackRatio"] = split.max_unpack_ratio
        return ManifestPlan(
            info,
            tuple(
                ManifestRange(
                    number, info.pointer, info.etag, info.size, group.range, reader, items=group.lines
                )
                for number, group in enumerate(groups.groups())
            ),
        )

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:
        """Return the groups of objects, from the first ten pages of the listing."""
        read = source.options.read
        if read is ObjectRead.LINES:
            return self._files.estimate(store, source, split)
        groups = LineGroups(split.range_bytes, split.max_ranges)
        count = 0
        for batch, lines in list_items(store, source, limit=MAX_LISTED + 1):
            for line, item in zip(lines, batch.items, strict=True):
                count += 1
                if count <= MAX_LISTED:
                    groups.add(len(line), len(line) if read is None else len(line) + item["size"])
        found = groups.groups()
        return ReadEstimate(
            "objects below a prefix" if read is None else f"objects below a prefix, read as {read}",
            0,
            max(1, -(-min(count, MAX_LISTED) // LISTED_PER_REQUEST)),
            written_first=True,
            chunks=[
                ChunkCost(f"items {group.first}-{group.first + group.lines - 1}", group.weight, group.lines)
                for group in found
            ],
            at_least=count > MAX_LISTED,
            items=min(count, MAX_LISTED),
            size=sum(group.weight for group in found),
        )

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
        """Yield the objects of a range of the list, with their contents."""
        read, max_unpack_ratio = _options(lines)
        listed = self._lines.batches(store, lines)
        with closing(add_contents(store, listed, read, max_unpack_ratio=max_unpack_ratio)) as batches:
            yield from batches

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield all objects below a prefix, as they are listed."""
        if source.options.read is ObjectRead.LINES:
            self._streams_files = True
            yield from self._files.stream(store, source, max_unpack_ratio=max_unpack_ratio)
            return
        listed = (batch for batch, _ in list_items(store, source))
        if source.options.read is None:
            yield from listed
            return
        contents = add_contents(store, listed, source.options.read, max_unpack_ratio=max_unpack_ratio)
        with closing(contents) as batches:
            yield from batches

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the lines of the list."""
        return self._lines.count(store, lines)

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:
        """Return the byte at which the object's line begins in the list; of LINES, the place in a file."""
        if lines is None and self._streams_files:
            return self._files.details(None, offset)
        return self._lines.details(lines, offset)

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:
        """Return the byte at which an object's line begins in the list; its content is not read."""
        return self._lines.offset_of(store, lines, item, max_bytes)

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Read an object's line, and its content."""
        place = self._lines.find(store, lines, offset, max_bytes)
        if place is None or not isinstance(place.value, dict) or place.value["size"] > max_bytes:
            return None
        read, max_unpack_ratio = _options(lines)
        loaded = load_item(store, place.value, read, max_unpack_ratio=max_unpack_ratio)
        return ItemPlace(loaded.item, place.where)


def _options(lines: ManifestRange) -> tuple[ObjectRead, int]:
    reader = lines.reader or {}
    return ObjectRead(reader["read"]), reader.get("maxUnpackRatio", MAX_UNPACK_RATIO)
