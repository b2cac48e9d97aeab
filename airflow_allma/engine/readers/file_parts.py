"""The parts of several files that are read as one: which there are, and what is read of each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self

from airflow_allma.engine.readers.format_reader import ReaderOf, Source, Split
from airflow_allma.engine.readers.open_source import find_format, open_source
from airflow_allma.engine.readers.read_estimate import ChunkCost
from airflow_allma.exceptions import (
    ObjectDecodeError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestRange, ObjectInfo, ObjectStore, Pointer
from airflow_allma.storage.compression import FREE_BYTES, without_compression
from airflow_allma.storage.line_groups import LineGroup, LineGroups
from airflow_allma.storage.manifest_ranges import ByteRange

__all__ = [
    "FilePart",
    "FileSet",
    "ListedFile",
    "estimated_chunks",
    "is_of_one_file",
    "label_of_files",
    "needs_no_request",
    "open_file",
    "parts_of",
    "whole_file",
]

_UNLIMITED_RATIO: Final = 2000
"""Where no limit of the ratio is set: more than what gzip can reach."""
_REQUEST_BYTES: Final = 4 << 10
"""What a file counts beside its bytes: thousands of tiny files are no small chunk."""


class ListedFile(NamedTuple):
    """A file as a listing or a manifest names it.

    Attributes:
        pointer: the object.
        size: its bytes; None if that is not known.
        etag: None if that is not known.
    """

    pointer: Pointer
    size: int | None = None
    etag: str | None = None


class FileSet(NamedTuple):
    """Files that are read as one.

    Attributes:
        files: in order.
        options: how each of them is read.
        encoded_field: the field of the items whose value is percent-encoded; empty: none.
    """

    files: Iterable[ListedFile]
    options: ItemReader
    encoded_field: str = ""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file, or a range of one.

    Attributes:
        lines: the range; of a whole file only its pointer, ETag (empty if not known) and size count.
        begin: offset of the file's first byte or row among those of all files.
        span: how many offsets the file has at most.
        is_whole: whether the whole file is read as a stream, in the format that it turns out to have.
        weight: about how many bytes are read; not saved.
    """

    lines: ManifestRange
    begin: int
    span: int
    is_whole: bool
    weight: int = _REQUEST_BYTES

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object, which ``from_dict`` reads."""
        return {**self.lines.to_dict(), "begin": self.begin, "span": self.span, "whole": self.is_whole}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned."""
        return cls(ManifestRange.from_dict(saved), saved["begin"], saved["span"], saved["whole"])


def is_of_one_file(error: StorageError) -> bool:
    """Return whether an error is about one file, so that others can be read."""
    return not isinstance(error, StorageUnavailableError | StorageConfigurationError)


def needs_no_request(file: ListedFile, part_bytes: int) -> bool:
    """Return whether ``parts_of`` knows enough of a file: it is small, or compressed by its name."""
    if file.size is None:
        return False
    key = file.pointer.key
    return file.size <= part_bytes or without_compression(key) != key.lower()


def estimated_chunks(
    files: Iterable[ListedFile], split: Split, limit: int | None
) -> tuple[list[ChunkCost] | None, int, bool]:
    """Return the chunks that files make as far as sizes alone tell, without a request.

    Args:
        files: in order.
        split: how they are to be split.
        limit: how many of them are looked at; None: all.

    Returns:
        The chunks, None if a size is not known; how many files there are; whether there are more.
    """
    groups = LineGroups(split.range_bytes, split.max_ranges)
    numbers = array("q")
    count, known, more = 0, True, False
    for number, file in enumerate(files):
        if number == limit:
            more = True
            break
        count += 1
        size = file.size
        if size is None:
            known = False
            continue
        is_one = needs_no_request(file, split.range_bytes)
        for weight in [size] if is_one else [split.range_bytes] * -(-size // split.range_bytes):
            groups.add(1, max(weight, 1))
            numbers.append(number)
    if not known:
        return None, count, more
    chunks = [ChunkCost(label_of_files(group, numbers), group.weight) for group in groups.groups()]
    return chunks, count, more


def label_of_files(group: LineGroup, numbers: Sequence[int]) -> str:
    """Return the label of a chunk: the numbers of its files.

    Args:
        group: its parts.
        numbers: the number of the file of each part.
    """
    first, last = numbers[group.first], numbers[group.first + group.lines - 1]
    return f"files {first}-{last}" if first != last else f"file {first}"


def open_file(store: ObjectStore, file: ListedFile, options: ItemReader) -> tuple[Source, ItemFormat]:
    """Look a file up, and its format.

    Raises:
        StorageError: it cannot be read, or is a manifest itself.
    """
    known = None
    if file.size is not None and file.etag:
        known = ObjectInfo(file.pointer, file.size, file.etag)
    source = open_source(store, file.pointer, options, known=known)
    if source.info is not None:
        # Listings and manifests do not name types, and a file must not depend on how it was looked up.
        source = replace(source, info=replace(source.info, content_type=None))
    found = find_format(source)
    if found is ItemFormat.MANIFEST:
        raise ObjectDecodeError(
            f"{file.pointer} is a manifest of S3 Inventory among other files. Name it as the fork's items, "
            "with itemReader.format MANIFEST, or leave it out."
        )
    if found is ItemFormat.JSONL and options.format is ItemFormat.AUTO and "csv" in options.model_fields_set:
        # Nothing tells it from lines of JSON, but the flow says what form it has.
        found = ItemFormat.CSV
    return source, found


def whole_file(file: ListedFile, begin: int, max_unpack_ratio: int) -> FilePart:
    """Return a file as one part."""
    size = file.size or 0
    # Rows and decompressed bytes are not known before the file is read.
    span = max(FREE_BYTES, size * (max_unpack_ratio or _UNLIMITED_RATIO)) + 1
    lines = ManifestRange(0, file.pointer, file.etag or "", size, ByteRange(0, size))
    return FilePart(lines, begin, span, is_whole=True, weight=size + _REQUEST_BYTES)


def parts_of(
    store: ObjectStore,
    file: ListedFile,
    options: ItemReader,
    reader_of: ReaderOf,
    *,
    part_bytes: int,
    max_unpack_ratio: int,
) -> list[FilePart]:
    """Split a file that is larger than a part, if its format can be split as it is; an empty one has none.

    ``begin`` of the parts is 0.

    Raises:
        StorageUnavailableError: the store did not respond.
    """
    if file.size is None:
        file = _looked_up(store, file)
    if file.size == 0:
        return []
    whole = [whole_file(file, 0, max_unpack_ratio)]
    if file.size is None or needs_no_request(file, part_bytes):
        return whole
    try:
        source, found = open_file(store, file, options)
        if source.compression is not None:
            return whole
        count = -(-file.size // part_bytes)
        plan = reader_of(found).plan(store, source, Split(part_bytes, count))
    except StorageUnavailableError:
        raise
    except StorageError:
        # What cannot be split, or read, is read as a whole: its error then is that of an item.
        return whole
    span = max(plan.lines.size, sum(lines.items or 0 for lines in plan.ranges)) + 1
    weight = plan.lines.size // max(1, len(plan.ranges)) + _REQUEST_BYTES
    return [FilePart(lines, 0, span, is_whole=False, weight=weight) for lines in plan.ranges]


def _looked_up(store: ObjectStore, file: ListedFile) -> ListedFile:
    try:
        info = store.head(file.pointer)
    except StorageError as error:
        if not is_of_one_file(error):
            raise
        return file
    return ListedFile(info.pointer, info.size, info.etag)
