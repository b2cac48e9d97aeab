"""Which objects a chunk has stored: its index if it has ended, otherwise the parts that exist so far."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from airflow_allma.distributed.chunk_layout import PartKind, PartName, folder_of_chunk, split_chunk_key
from airflow_allma.distributed.result_index import ChunkIndex, PartIndex
from airflow_allma.storage import ObjectStore, OffloadLocation, Pointer
from airflow_allma.storage.object_store import ObjectInfo

__all__ = ["ChunkFiles", "ChunkListing", "StoredPart", "list_chunks"]


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
        name = PartName.parse(part.key.removeprefix(prefix))
        if name is None or not part.key.startswith(prefix):
            continue
        pointer = Pointer(folder.bucket, part.key, region=folder.region)
        items = [item for item, _ in part.marks]
        offsets = [offset for _, offset in part.marks]
        found.append(
            StoredPart(
                pointer,
                name.sequence,
                name.writer,
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
    parts: dict[tuple[int, PartKind], list[StoredPart]] = {}
    etags: dict[int, dict[str, str]] = {}
    for number, path, info in _objects(store, folder, chunk):
        of_chunk = etags.setdefault(number, {})
        name = PartName.parse(path)
        if name is None:
            of_chunk[path] = info.etag
            continue
        part = StoredPart(
            info.pointer, name.sequence, name.writer, name.first, name.last, name.count, info.size
        )
        parts.setdefault((number, name.kind), []).append(part)
    return {
        number: ChunkListing(
            _ordered(parts.get((number, PartKind.RESULTS), ())),
            _ordered(parts.get((number, PartKind.TRACES), ())),
            of_chunk,
        )
        for number, of_chunk in etags.items()
    }


def _ordered(parts: Iterable[StoredPart]) -> tuple[StoredPart, ...]:
    return tuple(sorted(parts, key=lambda part: part.order))


def _objects(
    store: ObjectStore, folder: OffloadLocation, chunk: int | None
) -> Iterator[tuple[int, str, ObjectInfo]]:
    """Yield chunk number, name in the chunk's folder, and the object."""
    prefix = f"{folder.prefix}/"
    listed = folder if chunk is None else folder_of_chunk(folder, chunk)
    for info in store.list(folder.bucket, f"{listed.prefix}/"):
        in_chunk = split_chunk_key(info.pointer.key.removeprefix(prefix))
        if in_chunk is not None:
            yield *in_chunk, info
