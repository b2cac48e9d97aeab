"""The results of one chunk: how they lie in the store, and what reads single objects of them.

They are written as they come, so that whoever runs the chunk again runs only what is missing.

Each chunk has a folder (an ``OffloadLocation``) of its own::

    <chunk>/parts/<sequence>-<first>-<last>-<count>-<writer>.jsonl
    <chunk>/manifest.json

A **part** is JSON Lines, ordered by item. Parts are put whole and never changed: after a crash each one is
there or not. Its name tells, in decimal digits, its place among the parts, its first and last item, and its
lines; ``writer`` is a random name for each run of the chunk, so that two runs that overlap never write one
key. Objects with other names are left alone. A line is one branch run of one item::

    {"item": 12, "offset": 1840, "branch": "fetch", "status": "ok", "output": ...}
    {"item": 13, "offset": 1992, "branch": "fetch", "status": "failed", "error": {...}}
    {"item": 14, "offset": 2144, "branch": "fetch", "status": "skipped"}

``item`` counts the chunk's lines from 0, ``offset`` is where the line begins in the manifest, in bytes.
Of several results of one item and branch, in the order of their parts, the first success counts; without any,
the last of the others does. A skipped one says that the branch is not for this item: nothing is missing.

The **manifest** is written when the chunk has ended, last of all: how many items it had, how they ended,
and the parts. Readers need the parts alone; the manifest is the chunk's word that nothing is missing.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from airflow_allma.distributed.result_marks import Status
from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.storage.base import ObjectInfo, ObjectStore
from airflow_allma.storage.jsonl import LineBatch, read_line_batches
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.pointers import Pointer

__all__ = [
    "ChunkSummary",
    "ResultLine",
    "ResultPart",
    "list_parts",
    "manifest_pointer",
    "part_pointer",
    "read_chunk_summary",
    "read_part",
]

_NAME: Final = re.compile(r"parts/(\d{6,})-(\d+)-(\d+)-(\d+)-([0-9a-z]+)\.jsonl")
_BLOCK_BYTES: Final = 256 << 10
# An output may be as large as memory allows: it was one value when it was written.
_LONGEST_LINE: Final = 1 << 40


class ResultLine(msgspec.Struct, frozen=True):
    """How one branch run of one item ended.

    Attributes:
        item: the item's place among the chunk's items, from 0.
        offset: where the item's line begins in the manifest, in bytes.
        branch: the branch's id.
        status: ``ok``, ``failed``, or ``skipped`` when the branch is not for the item.
        output: the branch's result, still encoded; only of ``ok``.
        error: the error object, still encoded; only of ``failed``.
    """

    item: int
    offset: int
    branch: str
    status: Status
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == "ok"

    def value(self) -> Any:
        """The output of a success, or the error object of a failure, decoded; None of what was skipped."""
        encoded = self.output if self.is_ok else self.error
        return None if isinstance(encoded, msgspec.UnsetType) else msgspec.json.decode(encoded)


_decode_line = msgspec.json.Decoder(ResultLine).decode


@dataclass(frozen=True, slots=True)
class ResultPart:
    """One part, as far as its name tells.

    Attributes:
        info: the object.
        sequence: its place among the parts of the chunk; parts of overlapping runs may share one.
        writer: the run of the chunk that wrote it.
        first: its first item.
        last: its last item.
        count: its lines.
    """

    info: ObjectInfo
    sequence: int
    writer: str
    first: int
    last: int
    count: int


class ChunkSummary(msgspec.Struct, frozen=True):
    """A chunk's word about its results.

    Attributes:
        items: the items that the chunk had.
        succeeded: branch runs that ended well.
        failed: branch runs that failed, for all that was tried.
        parts: the keys of the parts.
        skipped: branch runs that were not for their item.
        version: of this format.
    """

    items: int
    succeeded: int
    failed: int
    parts: list[str]
    skipped: int = 0
    version: Literal[1] = 1


def list_parts(store: ObjectStore, location: OffloadLocation) -> list[ResultPart]:
    """The parts of a chunk in the order in which they were written.

    Raises:
        StorageError: the store's own; a bucket that is not there is one, a folder that is not there is not.
    """
    prefix = f"{location.prefix}/" if location.prefix else ""
    found = []
    for info in store.list(location.bucket, f"{prefix}parts/"):
        if match := _NAME.fullmatch(info.pointer.key.removeprefix(prefix)):
            sequence, first, last, count = (int(digits) for digits in match.groups()[:4])
            found.append(ResultPart(info, sequence, match[5], first, last, count))
    return sorted(found, key=lambda part: (part.sequence, part.writer))


def read_chunk_summary(store: ObjectStore, location: OffloadLocation) -> ChunkSummary | None:
    """A chunk's manifest, or None when the chunk has not ended yet.

    Raises:
        ObjectDecodeError: it is there, but of another form.
        StorageError: the store's own.
    """
    pointer = manifest_pointer(location)
    try:
        data = store.read(pointer)
    except ObjectNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=ChunkSummary)
    except msgspec.DecodeError as error:
        raise ObjectDecodeError(f"{pointer} is no manifest of a chunk's results: {error}.") from error


def manifest_pointer(location: OffloadLocation) -> Pointer:
    """Where a chunk's manifest lies."""
    return location.pointer("manifest", ending=".json")


def part_pointer(
    location: OffloadLocation, *, sequence: int, first: int, last: int, count: int, writer: str
) -> Pointer:
    """Where a part lies; the arguments are ``ResultPart``'s."""
    name = f"{sequence:06d}-{first:010d}-{last:010d}-{count}-{writer}"
    return location.pointer("parts", name, ending=".jsonl")


def read_part(store: ObjectStore, part: ResultPart) -> Generator[ResultLine, None, None]:
    """The lines of one part.

    Raises:
        ObjectDecodeError: a line is no result, or the part does not have the lines that its name tells of.
        StorageError: the store's own.
    """
    count = 0
    chunk = ManifestRange.whole(part.info)
    with closing(
        read_line_batches(store, chunk, max_line_bytes=_LONGEST_LINE, block_bytes=_BLOCK_BYTES)
    ) as batches:
        for batch in batches:
            for line in _decoded(batch, part):
                if not part.first <= line.item <= part.last:
                    raise ObjectDecodeError(
                        f"{part.info.pointer} has a result of item {line.item}, but its name tells of items "
                        f"{part.first} to {part.last}."
                    )
                count += 1
                yield line
    if count != part.count:
        raise ObjectDecodeError(
            f"{part.info.pointer} has {count} results, not the {part.count} that its name tells of."
        )


def _decoded(batch: LineBatch, part: ResultPart) -> list[ResultLine]:
    lines: list[ResultLine] = []
    try:
        # What was decoded before a bad line stays in the list, and tells which one it is.
        lines.extend(map(_decode_line, batch.lines))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ObjectDecodeError(
            f"The line at byte {batch.offsets[len(lines)]} of {part.info.pointer} is no result: {error}."
        ) from error
    return lines
