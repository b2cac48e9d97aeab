"""Writing a chunk's results while it runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage.base import JSON_LINES_TYPE, JSON_TYPE, ObjectStore
from airflow_allma.storage.content import encode_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.results import (
    ChunkManifest,
    ResultLine,
    list_parts,
    manifest_pointer,
    part_pointer,
    read_part,
)

__all__ = ["ResultWriter"]

_FLUSH_BYTES: Final = 4 << 20
_FLUSH_SECONDS: Final = 10.0


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
        self._encode = msgspec.json.Encoder().encode
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        self._succeeded: set[tuple[int, str]] = set()
        self._failed: set[tuple[int, str]] = set()
        self._skipped: set[tuple[int, str]] = set()
        self._of_status = {"ok": self._succeeded, "failed": self._failed, "skipped": self._skipped}
        try:
            parts = list_parts(store, location)
        except ObjectNotFoundError:
            # Local folders make their buckets with the first object; S3 refuses the first part.
            parts = []
        self._sequence = max((part.sequence for part in parts), default=-1) + 1
        self._keys = [part.info.pointer.key for part in parts]
        for part in parts:
            for line in read_part(store, part):
                self._count(line)

    @property
    def succeeded(self) -> int:
        """Branch runs that ended well, in this run of the chunk and earlier ones."""
        return len(self._succeeded)

    @property
    def failed(self) -> int:
        """Branch runs that failed and have not succeeded since."""
        return len(self._failed)

    @property
    def skipped(self) -> int:
        """Branch runs that were not for their item."""
        return len(self._skipped)

    def is_done(self, item: int, branch: str) -> bool:
        """Whether this branch run has succeeded or was skipped, now or in an earlier run of the chunk."""
        return self.has_succeeded(item, branch) or (item, branch) in self._skipped

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Whether this branch run has succeeded, now or in an earlier run of the chunk."""
        return (item, branch) in self._succeeded

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        if not self._waiting:
            return False
        return (
            self._waiting_bytes >= self._flush_bytes
            or self._clock() - self._waiting_since >= self._flush_seconds
        )

    def add_output(self, item: int, offset: int, branch: str, output: Any) -> bool:
        """Take the result of a branch run that ended well; ignored when there is one already.

        Returns:
            Whether it is time to flush.

        Raises:
            ObjectDecodeError: the output is no JSON value.
        """
        return self._add(ResultLine(item, offset, branch, "ok", output=msgspec.Raw(encode_value(output))))

    def add_error(self, item: int, offset: int, branch: str, error: Any) -> bool:
        """Take the error object of a branch run that failed; ignored when it has succeeded before.

        Returns:
            Whether it is time to flush.

        Raises:
            ObjectDecodeError: the error is no JSON value.
        """
        return self._add(ResultLine(item, offset, branch, "failed", error=msgspec.Raw(encode_value(error))))

    def add_skipped(self, item: int, offset: int, branch: str) -> bool:
        """Note that a branch is not for an item; ignored when that is known, or when it has succeeded before.

        Returns:
            Whether it is time to flush.
        """
        return self._add(ResultLine(item, offset, branch, "skipped"))

    def flush(self) -> None:
        """Write what waits as one part. When that fails, it goes on waiting.

        Raises:
            StorageError: the store's own.
        """
        with self._flushing:
            with self._lock:
                taken, self._waiting = self._waiting, []
                taken_bytes, self._waiting_bytes = self._waiting_bytes, 0
            if not taken:
                return
            try:
                self._write_part(taken)
            except BaseException:
                with self._lock:
                    self._waiting = taken + self._waiting
                    self._waiting_bytes += taken_bytes
                raise

    def finish(self, items: int) -> ChunkManifest:
        """Flush, and write the manifest.

        Args:
            items: the items that the chunk had.

        Raises:
            StorageError: the store's own.
        """
        self.flush()
        manifest = ChunkManifest(items, self.succeeded, self.failed, list(self._keys), self.skipped)
        self._store.write(manifest_pointer(self._location), self._encode(manifest), content_type=JSON_TYPE)
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

    def _add(self, line: ResultLine) -> bool:
        data = self._encode(line)
        with self._lock:
            if not self._count(line):
                return self.is_due
            if not self._waiting:
                self._waiting_since = self._clock()
            self._waiting.append((line.item, data))
            self._waiting_bytes += len(data) + 1
            return self.is_due

    def _count(self, line: ResultLine) -> bool:
        """Note how a branch run ended; False when that changes nothing."""
        run = (line.item, line.branch)
        if run in self._succeeded or (line.status == "skipped" and run in self._skipped):
            return False
        self._failed.discard(run)
        self._skipped.discard(run)
        self._of_status[line.status].add(run)
        return True

    def _write_part(self, lines: list[tuple[int, bytes]]) -> None:
        # Sorting is stable: a failure and a success of one item stay in their order.
        ordered = sorted(lines, key=lambda line: line[0])
        pointer = part_pointer(
            self._location,
            sequence=self._sequence,
            first=ordered[0][0],
            last=ordered[-1][0],
            count=len(ordered),
            writer=self._writer,
        )
        body = b"\n".join([*(data for _, data in ordered), b""])
        self._store.write(pointer, body, content_type=JSON_LINES_TYPE)
        self._sequence += 1
        self._keys.append(pointer.key)
