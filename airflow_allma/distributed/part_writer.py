"""Writing lines of a chunk as parts: objects of JSON Lines, ordered by item, that the index describes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from airflow_allma.distributed.chunk_layout import PartKind, PartName
from airflow_allma.distributed.result_index import MARK_BYTES, MARK_LINES, PartIndex
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_LINES_TYPE, ObjectStore

__all__ = ["FLUSH_BYTES", "FLUSH_SECONDS", "PartWriter", "find_marks"]

FLUSH_BYTES: Final = 1 << 20
FLUSH_SECONDS: Final = 10.0


class PartWriter:
    """Collects lines and writes them as parts; ``add`` never blocks on the store.

    Args:
        store: the store of the location.
        location: the chunk's own folder.
        kind: what the lines are.
        writer: a name of this run of the chunk.
        flush_bytes: a flush is due when this many bytes wait.
        flush_seconds: a flush is due when a line has waited this long.
        clock: returns seconds.

    Attributes:
        parts: the parts, those of earlier runs of the chunk first, in the order in which they were written.
        sequence: the number of the next part.
        waiting_bytes: bytes of lines that wait for the next part.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: OffloadLocation,
        kind: PartKind,
        *,
        writer: str,
        flush_bytes: int = FLUSH_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.parts: list[PartIndex] = []
        self.sequence = 0
        self.waiting_bytes = 0
        self._store, self._location = store, location
        self._kind = kind
        self._writer = writer
        self._flush_bytes, self._flush_seconds = flush_bytes, flush_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        # What waits: encoded lines in batches, how many lines each batch has, and the item of each line.
        self._items: list[int] = []
        self._batches: list[bytes] = []
        self._counts: list[int] = []
        self._waiting_since = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        if not self._batches:
            return False
        return (
            self.waiting_bytes >= self._flush_bytes
            or self._clock() - self._waiting_since >= self._flush_seconds
        )

    def add(self, items: Sequence[int], batches: Sequence[bytes], counts: Sequence[int]) -> None:
        """Add lines.

        Args:
            items: the item of each line.
            batches: the lines, each with its line break, in batches.
            counts: how many lines each batch has.
        """
        with self._lock:
            if not self._batches:
                self._waiting_since = self._clock()
            self._items.extend(items)
            self._batches.extend(batches)
            self._counts.extend(counts)
            self.waiting_bytes += sum(map(len, batches))

    def flush(self) -> None:
        """Write the lines that wait as one part. If that fails, they keep waiting.

        Raises:
            StorageError: raised by the store.
        """
        with self._flushing:
            with self._lock:
                items, self._items = self._items, []
                batches, self._batches = self._batches, []
                counts, self._counts = self._counts, []
                taken_bytes, self.waiting_bytes = self.waiting_bytes, 0
            if not batches:
                return
            try:
                self._write(items, batches, counts)
            except BaseException:
                with self._lock:
                    self._items = items + self._items
                    self._batches = batches + self._batches
                    self._counts = counts + self._counts
                    self.waiting_bytes += taken_bytes
                raise

    def _write(self, items: list[int], batches: list[bytes], counts: list[int]) -> None:
        body = b"".join(batches)
        ordered = sorted(items)
        if ordered != items:
            lines = body.splitlines(keepends=True)
            # Sorting is stable: a failure and a success of one item keep their order.
            batches = [lines[number] for number in sorted(range(len(items)), key=items.__getitem__)]
            counts = [1] * len(lines)
            body = b"".join(batches)
        first, last, count = ordered[0], ordered[-1], len(items)
        name = PartName(self._kind, self.sequence, first, last, count, self._writer)
        pointer = name.pointer(self._location)
        self._store.write(pointer, body, content_type=JSON_LINES_TYPE)
        self.sequence += 1
        marks = find_marks(ordered, zip(counts, map(len, batches), strict=True))
        self.parts.append(PartIndex(pointer.key, first, last, count, len(body), marks))


def find_marks(items: Sequence[int], batches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the marks of a part.

    Args:
        items: the item of each line, ascending.
        batches: number of lines and bytes of each batch of the part; a mark can only be at the beginning of
            one.
    """
    marks: list[tuple[int, int]] = []
    line = offset = marked_line = marked_byte = 0
    for count, size in batches:
        is_far = line - marked_line >= MARK_LINES or offset - marked_byte >= MARK_BYTES
        if is_far and items[line] != items[line - 1]:
            marks.append((items[line], offset))
            marked_line, marked_byte = line, offset
        line += count
        offset += size
    return marks
