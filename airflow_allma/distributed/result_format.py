"""The format of a chunk's stored results, and functions that read single objects of them.

Results are written as they come, so that a chunk that runs again runs only what is missing.

Each chunk has a folder of its own; ``chunk_layout`` names the objects in it. A **part** is JSON Lines,
ordered by item. Parts are written whole and never changed: after a crash each one exists or does not. Its
name has, in decimal digits, its number among the parts, its first and last item, and the number of its lines;
``writer`` is a random name for each run of the chunk, so that two overlapping runs never write the same key.
Objects with other names are ignored. A line is one branch run of one item::

    {"item": 12, "offset": 1840, "branch": "fetch", "status": "ok", "output": ...}
    {"item": 13, "offset": 1992, "branch": "fetch", "status": "failed", "error": {...}}
    {"item": 14, "offset": 2144, "branch": "fetch", "status": "skipped"}

``item`` counts the chunk's lines from 0, ``offset`` is where the line begins in the manifest, in bytes. A
skipped result means that the branch does not apply to the item.

Where an item is a batch of several, the line also has their number, ``items``.

Results of items that were selected to run again, good ones too, also have a ``generation``, from 1; so have
those that later runs of the chunk add for the same item and branch. Of several results of one item and branch
``final_results`` says which counts.

The **summary** (``manifest.json``) is written last, when the chunk has ended: how many items it had, how they
ended, and the parts. Readers need only the parts; the summary states that nothing is missing, and up to which
generation what was selected has run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from airflow_allma.distributed.chunk_layout import ChunkFile, Part
from airflow_allma.engine import BranchStatus
from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.storage.jsonl import LineBatch, read_line_batches
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.object_store import ObjectStore

__all__ = [
    "MAX_GENERATION",
    "ChunkSummary",
    "Generation",
    "ResultLine",
    "decode_object",
    "read_chunk_summary",
    "read_located",
    "read_part",
]

_T = TypeVar("_T")

_BLOCK_BYTES: Final = 256 << 10
# An output can be as large as memory allows: it was one value when it was written.
_MAX_LINE_BYTES: Final = 1 << 40

MAX_GENERATION: Final = (1 << 53) - 1
"""The largest integer that JavaScript, too, reads exactly from JSON."""
Generation = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
"""Which selection a result belongs to; 0 for none. A later selection has a higher one."""


class ResultLine(msgspec.Struct, frozen=True):
    """The result of one branch run of one item.

    Attributes:
        item: the item's index in the chunk, from 0.
        offset: where the item's line begins in the manifest, in bytes.
        branch: the branch's id.
        status: how it ended.
        output: the branch's result, still encoded; only of ``ok``.
        error: the error object, still encoded; only of ``failed``.
        generation: the selection with which it ran. In a line it is before the value, so that readers
            need not read a large one to see whether the line counts.
        items: how many items of the fork are in the item, which is a batch.
    """

    item: int
    offset: int
    branch: str
    status: BranchStatus
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    generation: Generation = 0
    items: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)] = 1

    @property
    def is_ok(self) -> bool:
        """Whether it succeeded."""
        return self.status is BranchStatus.OK

    def value(self) -> Any:
        """Return the decoded output of a success or error object of a failure; None for a skipped one."""
        encoded = self.output if self.is_ok else self.error
        return None if isinstance(encoded, msgspec.UnsetType) else msgspec.json.decode(encoded)


_decode_line = msgspec.json.Decoder(ResultLine).decode


class ChunkSummary(msgspec.Struct, frozen=True):
    """The summary of a finished chunk.

    Attributes:
        items: the items that the chunk had.
        succeeded: branch runs that ended well.
        failed: branch runs that failed in the end.
        parts: the keys of the parts.
        skipped: branch runs whose branch does not apply to the item.
        generation: the last selection of items of the chunk that has run to its end; 0 for none.
        version: the version of this format.
    """

    items: int
    succeeded: int
    failed: int
    parts: list[str]
    skipped: int = 0
    generation: Generation = 0
    version: Literal[1] = 1


def read_chunk_summary(store: ObjectStore, location: OffloadLocation) -> ChunkSummary | None:
    """Return a chunk's summary, or None when the chunk has not ended yet.

    Raises:
        ObjectDecodeError: it has another format.
        StorageError: raised by the store.
    """
    pointer = ChunkFile.SUMMARY.pointer(location)
    try:
        data = store.read(pointer)
    except ObjectNotFoundError:
        return None
    return decode_object(data, ChunkSummary, f"{pointer} is not a summary of a chunk's results")


def decode_object(data: bytes, kind: type[_T], problem: str) -> _T:
    """Return the JSON object that a chunk has stored.

    Args:
        data: the bytes of the object.
        kind: what it is.
        problem: what the error says first, if it is something else.

    Raises:
        ObjectDecodeError: it has another format.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ObjectDecodeError(f"{problem}: {error}.") from error


def read_part(store: ObjectStore, part: Part) -> Generator[ResultLine, None, None]:
    """Yield the lines of one part.

    Raises:
        ObjectDecodeError: a line is not a result, or the part does not have the lines that its name states.
        StorageError: raised by the store.
    """
    with closing(read_located(store, part)) as batches:
        for _, lines in batches:
            yield from lines


def read_located(store: ObjectStore, part: Part) -> Generator[tuple[list[int], list[ResultLine]], None, None]:
    """Yield the lines of one part in batches, with where each begins, in bytes; raises as ``read_part``."""
    count = 0
    name, chunk = part.name, ManifestRange.whole(part.info)
    first, last = name.first, name.last
    with closing(
        read_line_batches(store, chunk, max_line_bytes=_MAX_LINE_BYTES, block_bytes=_BLOCK_BYTES)
    ) as batches:
        for batch in batches:
            lines = _decoded(batch, part)
            for line in lines:
                if not first <= line.item <= last:
                    raise ObjectDecodeError(
                        f"{part.info.pointer} has a result of item {line.item}, but its name states items "
                        f"{name.first} to {name.last}."
                    )
            count += len(lines)
            yield batch.offsets, lines
    if count != name.count:
        raise ObjectDecodeError(
            f"{part.info.pointer} has {count} results, not the {name.count} that its name states."
        )


def _decoded(batch: LineBatch, part: Part) -> list[ResultLine]:
    lines: list[ResultLine] = []
    try:
        # The lines decoded before a bad one stay in the list, whose length is its position.
        lines.extend(map(_decode_line, batch.lines))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ObjectDecodeError(
            f"The line at byte {batch.offsets[len(lines)]} of {part.info.pointer} is not a result: {error}."
        ) from error
    return lines
