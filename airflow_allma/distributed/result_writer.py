"""Writing a chunk's results while it runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from airflow_allma.distributed.result_format import (
    ChunkSummary,
    list_parts,
    manifest_pointer,
    part_pointer,
    read_part,
)
from airflow_allma.distributed.result_marks import ResultMarks, Status
from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage.base import JSON_LINES_TYPE, JSON_TYPE, ObjectStore
from airflow_allma.storage.content import encode_value
from airflow_allma.storage.keys import OffloadLocation

__all__ = ["NewResult", "ResultWriter"]

_FLUSH_BYTES: Final = 1 << 20
_FLUSH_SECONDS: Final = 10.0


class NewResult(msgspec.Struct, gc=False):
    """A ``ResultLine`` whose value is not encoded yet: the whole line is encoded at once."""

    item: int
    offset: int
    branch: str
    status: Status
    output: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


class ResultWriter:
    """Collects results and writes them as parts; knows what earlier runs of the chunk have written.

    ``add`` never blocks on the store; ``flush`` does, and may be called from another thread. Used as a
    context manager it flushes at the end, also when the block raises: finished results stay good.
    ``finish`` writes the manifest, and is the caller's to call when every item has been seen.

    Args:
        store: where the location lies.
        location: the chunk's own folder.
        flush_bytes: a flush is due when so many bytes wait.
        flush_seconds: a flush is due when something has waited so long.
        clock: seconds; tests pass their own.

    Raises:
        ObjectDecodeError: an earlier part is broken.
        StorageError: the store's own, while looking for earlier parts.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: OffloadLocation,
        *,
        flush_bytes: int = _FLUSH_BYTES,
        flush_seconds: float = _FLUSH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._location = location
        self._flush_bytes = flush_bytes
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._writer = uuid.uuid4().hex
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        # What waits: whole lines as they came, some at once, and which item each line is of.
        self._items: list[int] = []
        self._text: list[bytes] = []
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        self._marks = ResultMarks()
        try:
            parts = list_parts(store, location)
        except ObjectNotFoundError:
            # Local folders make their buckets with the first object; S3 refuses the first part.
            parts = []
        self._sequence = max((part.sequence for part in parts), default=-1) + 1
        self._keys = [part.info.pointer.key for part in parts]
        for part in parts:
            for line in read_part(store, part):
                self._marks.note(line.item, line.branch, line.status)

    @property
    def is_empty(self) -> bool:
        """Whether there is no result yet, of this run of the chunk or an earlier one."""
        return not (self.succeeded or self.failed or self.skipped)

    @property
    def succeeded(self) -> int:
        """Branch runs that ended well, in this run of the chunk and earlier ones."""
        return self._marks.count("ok")

    @property
    def failed(self) -> int:
        """Branch runs that failed and have not succeeded since."""
        return self._marks.count("failed")

    @property
    def skipped(self) -> int:
        """Branch runs that were not for their item."""
        return self._marks.count("skipped")

    def is_done(self, item: int, branch: str) -> bool:
        """Whether this branch run has succeeded or was skipped, now or in an earlier run of the chunk."""
        return self._marks.is_done(item, branch)

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Whether this branch run has succeeded, now or in an earlier run of the chunk."""
        return self._marks.is_ok(item, branch)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of results that the next part will have."""
        return self._waiting_bytes

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        if not self._text:
            return False
        return (
            self._waiting_bytes >= self._flush_bytes
            or self._clock() - self._waiting_since >= self._flush_seconds
        )

    def add(self, results: Sequence[NewResult]) -> bool:
        """Take results; those that change nothing are ignored.

        A success stays, whatever comes after it; of anything else the last one counts.

        Returns:
            Whether it is time to flush.

        Raises:
            ObjectDecodeError: an output or error is no JSON value; the results before it are taken.
        """
        try:
            text = self._encoder.encode_lines(results)
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError):
            if len(results) > 1:
                # Which one it is, and nothing lost of those before it.
                for result in results:
                    self.add((result,))
            encode_value(results[0])
            raise
        with self._lock:
            fresh = self._marks.note_all(results)
            if len(fresh) < len(results):
                text = self._encoder.encode_lines(fresh)
            if fresh:
                if not self._text:
                    self._waiting_since = self._clock()
                self._items.extend([result.item for result in fresh])
                self._text.append(text)
                self._waiting_bytes += len(text)
            return self.is_due

    def add_output(self, item: int, offset: int, branch: str, output: Any) -> bool:
        """Take the result of a branch run that ended well, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, "ok", output=output),))

    def add_error(self, item: int, offset: int, branch: str, error: Any) -> bool:
        """Take the error object of a branch run that failed, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, "failed", error=error),))

    def add_skipped(self, item: int, offset: int, branch: str) -> bool:
        """Note that a branch is not for an item, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, "skipped"),))

    def flush(self) -> None:
        """Write what waits as one part. When that fails, it goes on waiting.

        Raises:
            StorageError: the store's own.
        """
        with self._flushing:
            with self._lock:
                items, self._items = self._items, []
                text, self._text = self._text, []
                taken_bytes, self._waiting_bytes = self._waiting_bytes, 0
            if not text:
                return
            try:
                self._write_part(items, text)
            except BaseException:
                with self._lock:
                    self._items = items + self._items
                    self._text = text + self._text
                    self._waiting_bytes += taken_bytes
                raise

    def finish(self, items: int) -> ChunkSummary:
        """Flush, and write the manifest.

        Args:
            items: the items that the chunk had.

        Raises:
            StorageError: the store's own.
        """
        self.flush()
        manifest = ChunkSummary(items, self.succeeded, self.failed, list(self._keys), self.skipped)
        encoded = self._encoder.encode(manifest)
        self._store.write(manifest_pointer(self._location), encoded, content_type=JSON_TYPE)
        return manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except StorageError as failure:
            if error is None:
                raise
            error.add_note(f"Results that waited could not be written: {failure}")

    def _write_part(self, items: list[int], text: list[bytes]) -> None:
        body = b"".join(text)
        ordered = sorted(items)
        if ordered != items:
            lines = body.splitlines(keepends=True)
            # Sorting is stable: a failure and a success of one item stay in their order.
            body = b"".join([lines[place] for place in sorted(range(len(items)), key=items.__getitem__)])
        pointer = part_pointer(
            self._location,
            sequence=self._sequence,
            first=ordered[0],
            last=ordered[-1],
            count=len(items),
            writer=self._writer,
        )
        self._store.write(pointer, body, content_type=JSON_LINES_TYPE)
        self._sequence += 1
        self._keys.append(pointer.key)
