"""Which objects a chunk has stored: its index if it has ended, otherwise the parts that exist so far."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from airflow_allma.distributed.result_index import ChunkIndex, PartIndex
from airflow_allma.storage import ObjectStore, OffloadLocation, Pointer
from airflow_allma.storage.object_store import ObjectInfo

__all__ = ["ChunkFiles", "ChunkListing", "StoredPart", "list_chunks"]

_PART: Final = re.compile(r"(?:parts|traces)/(\d{6,})-(\d+)-(\d+)-(\d+)-([0-9a-z]+)\.jsonl")
_CHUNK: Final = re.compile(r"(\d{6,})/(.+)")


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One object of result or trace lines, in the order of their items.

    Attributes:
        pointer: the object.
        sequence: its number among the parts of the chunk.
        writer: the run of the chunk that wrote it.
        first: its first item.
        last: its last item.
        count: its lines.
        bytes: its size.
        marked: the items of the lines whose beginnings are known, in order.
        offsets: where these lines begin, in bytes.
    """

    pointer: Pointer
    sequence: int
    writer: str
    first: int
    last: int
    count: int
    bytes: int
    marked: Sequence[int] = ()
    offsets: Sequence[int] = ()

    @property
    def order(self) -> tuple[int, str]:
        """The order in which parts were written."""
        return self.sequence, self.writer

    def byte_range(self, first: int, last: int) -> tuple[int, int]:
        """Return the bytes in which all lines of these items are, as far as it is known."""
        # The first line of a marked item is where its mark is.
        before = bisect_right(self.marked, first) - 1
        after = bisect_right(self.marked, last)
        start = self.offsets[before] if before >= 0 else 0
        return start, self.offsets[after] if after < len(self.offsets) else self.bytes


@dataclass(frozen=True, slots=True)
class ChunkListing:
    """The objects in a chunk's folder.

    Attributes:
        parts: result parts, in the order in which they were written.
        traces: trace parts, in this order.
        etags: name -> ETag of the other objects.
    """

    parts: tuple[StoredPart, ...] = ()
    traces: tuple[StoredPart, ...] = ()
    etags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """What a chunk has stored.

    Attributes:
        parts: its results, in the order in which they were written.
        traces: the traces of its items, in this order.
        index: its index, if it describes these parts.
        is_empty: whether nothing is there at all.
    """

    parts: tuple[StoredPart, ...] = ()
    traces: tuple[StoredPart, ...] = ()
    index: ChunkIndex | None = None
    is_empty: bool = False

    @classmethod
    def of_index(cls, index: ChunkIndex, folder: OffloadLocation) -> ChunkFiles:
        """Return the files that an index names; keys outside of the chunk's folder are ignored."""
        return cls(_named(index.parts, folder), _named(index.traces, folder), index)

    @classmethod
    def of_listing(
        cls, listing: ChunkListing, index: ChunkIndex | None, folder: OffloadLocation
    ) -> ChunkFiles:
        """Return the files that exist, with the marks of an index that may be older than some of them."""
        if index is None:
            return cls(listing.parts, listing.traces, is_empty=not listing.parts and not listing.etags)
        known = cls.of_index(index, folder)
        if {part.pointer.key for part in known.parts} == {part.pointer.key for part in listing.parts}:
            return known
        return cls(_marked(listing.parts, known.parts), _marked(listing.traces, known.traces))


def _marked(found: Iterable[StoredPart], known: Iterable[StoredPart]) -> tuple[StoredPart, ...]:
    by_key = {part.pointer.key: part for part in known}
    return tuple(by_key.get(part.pointer.key, part) for part in found)


def _named(parts: Iterable[PartIndex], folder: OffloadLocation) -> tuple[StoredPart, ...]:
    found = []
    prefix = f"{folder.prefix}/"
    for part in parts:
        match = _PART.fullmatch(part.key.removeprefix(prefix))
        if match is None or not part.key.startswith(prefix):
            continue
        pointer = Pointer(folder.bucket, part.key, region=folder.region)
        items = [item for item, _ in part.marks]
        offsets = [offset for _, offset in part.marks]
        found.append(
            StoredPart(
                pointer,
                int(match[1]),
                match[5],
                part.first,
                part.last,
                part.count,
                part.bytes,
                items,
                offsets,
            )
        )
    return _ordered(found)


def list_chunks(
    store: ObjectStore, folder: OffloadLocation, chunk: int | None = None
) -> dict[int, ChunkListing]:
    """Return chunk number -> what it has stored.

    Args:
        store: the store.
        folder: the folder of the results of all chunks.
        chunk: the only chunk to list; None for all that have stored anything.

    Raises:
        StorageError: raised by the store, also for a missing bucket.
    """
    parts: dict[int, dict[str, list[StoredPart]]] = {}
    etags: dict[int, dict[str, str]] = {}
    for number, name, info in _objects(store, folder, chunk):
        if match := _PART.fullmatch(name):
            sequence, first, last, count = (int(digits) for digits in match.groups()[:4])
            part = StoredPart(info.pointer, sequence, match[5], first, last, count, info.size)
            parts.setdefault(number, {}).setdefault(name.partition("/")[0], []).append(part)
        else:
            etags.setdefault(number, {})[name] = info.etag
    return {
        number: ChunkListing(
            _ordered(parts.get(number, {}).get("parts", ())),
            _ordered(parts.get(number, {}).get("traces", ())),
            etags.get(number, {}),
        )
        for number in {*parts, *etags}
    }


def _ordered(parts: Iterable[StoredPart]) -> tuple[StoredPart, ...]:
    return tuple(sorted(parts, key=lambda part: part.order))


def _objects(
    store: ObjectStore, folder: OffloadLocation, chunk: int | None
) -> Iterator[tuple[int, str, ObjectInfo]]:
    """Yield chunk number, name in the chunk's folder, and the object."""
    prefix = f"{folder.prefix}/"
    for info in store.list(folder.bucket, prefix if chunk is None else f"{prefix}{chunk:06d}/"):
        if match := _CHUNK.fullmatch(info.pointer.key.removeprefix(prefix)):
            yield int(match[1]), match[2], info
