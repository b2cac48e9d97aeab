"""Several files as one manifest: the lines of a prefix, or the files that a manifest lists."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from airflow_allma.engine.readers.file_parts import (
    FilePart,
    FileSet,
    ListedFile,
    estimated_chunks,
    label_of_files,
    needs_no_request,
    parts_of,
    whole_file,
)
from airflow_allma.engine.readers.format_reader import (
    ItemBatch,
    ItemPlace,
    ReaderOf,
    Source,
    Split,
    range_format,
)
from airflow_allma.engine.readers.known_parts import KnownParts, known_parts, remember_parts
from airflow_allma.engine.readers.object_listing import list_objects, require_spool
from airflow_allma.engine.readers.ordered_calls import ordered_calls
from airflow_allma.engine.readers.part_reader import PartReader
from airflow_allma.engine.readers.read_estimate import LISTED_PER_REQUEST, MAX_LISTED, ReadEstimate
from airflow_allma.engine.readers.read_json import JsonReader
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectStore
from airflow_allma.storage.compression import MAX_UNPACK_RATIO
from airflow_allma.storage.line_groups import LineGroups
from airflow_allma.storage.object_store import JSON_LINES_TYPE

__all__ = ["FilesReader"]

_FORMAT: Final = "FILES"
_MAX_FOUND_FACTOR: Final = 4
"""How far into a small compressed file an item is looked for, in multiples of what may be read."""
_encode: Final = msgspec.json.Encoder().encode


class FilesReader:
    """Reads groups of files, and of parts of large ones.

    Planning writes a line for each part; a range of these lines is what a task reads. Offsets are places in
    a file plus the sum of what the files before it can have at most.

    Args:
        reader_of: finds the readers of the files.
    """

    def __init__(self, reader_of: ReaderOf) -> None:
        self._reader_of = reader_of
        self._streamed = KnownParts()

    def file_set(self, store: ObjectStore, source: Source) -> FileSet:
        """Return the objects below a prefix that are not empty.

        Raises:
            StorageError: they cannot be listed.
        """
        files = (
            ListedFile(info.pointer, info.size, info.etag)
            for info in list_objects(store, source.prefix)
            if info.size
        )
        return FileSet(files, options_of_files(source.options))

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Write a line for each part of a file; a range has about the same bytes as another."""
        target = require_spool(split, source, "files")
        files = self.file_set(store, source)
        groups = LineGroups(split.range_bytes, split.max_ranges)
        numbers = array("q")
        with store.open_writer(target, content_type=JSON_LINES_TYPE) as writer:
            for number, part in _planned(store, files, self._reader_of, groups, split.max_unpack_ratio):
                line = _encode(part.to_dict()) + b"\n"
                writer.write(line)
                groups.add(len(line), part.weight)
                numbers.append(number)
        info = writer.info
        reader: dict[str, Any] = {
            "format": _FORMAT,
            "options": files.options.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
        if files.encoded_field:
            reader["encodedField"] = files.encoded_field
        if split.max_unpack_ratio != MAX_UNPACK_RATIO:
            reader["maxUnpackRatio"] = split.max_unpack_ratio
        ranges = tuple(
            ManifestRange(
                number,
                info.pointer,
                info.etag,
                info.size,
                group.range,
                {**reader, "label": label_of_files(group, numbers)},
            )
            for number, group in enumerate(groups.groups())
        )
        return ManifestPlan(info, ranges, is_counted_later=True)

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:
        """Return groups of files: of the first ten pages of a listing, or of all in a manifest."""
        what = "files below a prefix"
        requests, planned = 0, 0
        limit: int | None = MAX_LISTED
        if source.info is not None:
            what, requests, planned, limit = "files of a manifest", 3, source.info.size, None
        chunks, count, at_least = estimated_chunks(self.file_set(store, source).files, split, limit)
        if source.info is None:
            requests = max(1, -(-count // LISTED_PER_REQUEST))
        return ReadEstimate(
            f"{count} {what}",
            planned,
            requests,
            written_first=True,
            chunks=chunks,
            at_least=at_least,
            size=None if chunks is None else sum(chunk.size for chunk in chunks),
        )

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
        """Yield the items of the files, one after another; of a file that cannot be read, an error."""
        reading = PartReader.of(store, self._reader_of, lines)
        known = remember_parts(lines, list(_parts(store, lines)))
        yield from reading.batches(known.parts, known)

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield the items of all files, as they are listed."""
        files = self.file_set(store, source)
        reading = PartReader(store, self._reader_of, files.options, files.encoded_field, max_unpack_ratio)
        parts = self._streamed.track(_whole_files(files.files, max_unpack_ratio))
        yield from reading.batches(parts, self._streamed)

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the items; reads all files of the range."""
        return sum(len(batch.items) for batch in self.batches(store, lines))

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:
        """Return the file and the place in it, if this process has read the list of files."""
        known = self._streamed if lines is None else known_parts(lines)
        found = None if known is None else known.at(offset)
        if found is None:
            return {"itemOffset": offset}
        part, name = found
        place: Mapping[str, Any] = {}
        if name is not None:
            place = self._reader_of(name).details(part.lines, offset - part.begin)
        return {"object": part.lines.pointer.uri, **place, "itemOffset": offset}

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:  # noqa: ARG002 - as the others
        """Return None: the files of a range can be of any size."""
        return None

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Find the file by the list, and read the item in it."""
        if lines.range.end - lines.range.start > max_bytes:
            return None
        reading = PartReader.of(store, self._reader_of, lines)
        known = KnownParts(_parts(store, lines)).at(offset)
        if known is None:
            return None
        part = known[0]
        place = offset - part.begin
        if not part.is_whole:
            found = self._reader_of(range_format(part.lines)).find(store, part.lines, place, max_bytes)
            return found and ItemPlace(reading.decoded(found.value), found.where)
        if part.lines.size > max_bytes or place > _MAX_FOUND_FACTOR * max_bytes:
            return None
        return reading.find(part, place)


def options_of_files(options: ItemReader) -> ItemReader:
    """Return how each file is read: its format is found out by name and content."""
    cleared = {"format": ItemFormat.AUTO, "read": None, "max_items": None, "items_at": None}
    return options.model_copy(update=cleared)


def _planned(
    store: ObjectStore, files: FileSet, reader_of: ReaderOf, groups: LineGroups, max_unpack_ratio: int
) -> Iterator[tuple[int, FilePart]]:
    """Yield each part with the number of its file."""

    def split(file: ListedFile) -> list[FilePart]:
        # Parts grow with what is planned: the list stays short for any number of bytes.
        return parts_of(
            store,
            file,
            files.options,
            reader_of,
            part_bytes=groups.target,
            max_unpack_ratio=max_unpack_ratio,
        )

    begin = 0
    is_quick = lambda file: needs_no_request(file, groups.target)  # noqa: E731
    for number, parts in enumerate(ordered_calls(split, files.files, is_quick)):
        for part in parts:
            yield number, replace(part, begin=begin)
        begin += parts[0].span if parts else 0


def _whole_files(files: Iterable[ListedFile], max_unpack_ratio: int) -> Iterator[FilePart]:
    begin = 0
    for file in files:
        if file.size != 0:
            part = whole_file(file, begin, max_unpack_ratio)
            begin += part.span
            yield part


def _parts(store: ObjectStore, lines: ManifestRange) -> Iterator[FilePart]:
    for batch in JsonReader().batches(store, lines):
        yield from map(FilePart.from_dict, batch.items)
