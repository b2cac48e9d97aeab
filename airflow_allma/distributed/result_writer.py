"""Writing a chunk's results while it runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.result_format import (
    ChunkSummary,
    list_parts,
    part_pointer,
    read_part,
    summary_pointer,
)
from airflow_allma.distributed.result_marks import ResultMarks
from airflow_allma.engine import BranchStatus
from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage.content import encode_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_LINES_TYPE, JSON_TYPE, ObjectStore

__all__ = ["NewResult", "ResultWriter"]

_FLUSH_BYTES: Final = 1 << 20
_FLUSH_SECONDS: Final = 10.0


class NewResult(msgspec.Struct, gc=False):
    """A ``ResultLine`` whose value is not encoded yet: the whole line is encoded at once."""

    item: int
    offset: int
    branch: str
    status: BranchStatus
    generation: int | msgspec.UnsetType = msgspec.UNSET
    """Set by the writer, where it is not 0."""
    output: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


class ResultWriter:
    """Collects results and writes them as parts; knows what earlier runs of the chunk have written.

    ``add`` never blocks on the store; ``flush`` does, and can be called from another thread. As a context
    manager it flushes at the end, also when the block raises, so that finished results are kept. The caller
    calls ``finish``, which writes the summary, once every item has ended.

    Args:
        store: the store of the location.
        location: the chunk's own folder.
        flush_bytes: a flush is due when this many bytes wait.
        flush_seconds: a flush is due when a result has waited this long.
        clock: returns seconds; tests pass their own.

    Raises:
        ObjectDecodeError: an earlier part is invalid.
        StorageError: raised by the store while looking for earlier parts.
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
        # Results that wait: encoded lines in batches, and the item of each line.
        self._items: list[int] = []
        self._encoded: list[bytes] = []
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        self._marks = ResultMarks()
        self._selection: ItemSelection | None = None
        try:
            parts = list_parts(store, location)
        except ObjectNotFoundError:
            # Local folders create their buckets with the first object; S3 refuses the first part.
            parts = []
        self._sequence = max((part.sequence for part in parts), default=-1) + 1
        self._keys = [part.info.pointer.key for part in parts]
        for part in parts:
            for line in read_part(store, part):
                self._marks.note(line.item, line.branch, line.status, line.generation)

    @property
    def is_empty(self) -> bool:
        """Whether no result exists yet, of this run of the chunk or an earlier one."""
        return not (self.succeeded or self.failed or self.skipped)

    @property
    def succeeded(self) -> int:
        """Branch runs that succeeded, in this run of the chunk and earlier ones."""
        return self._marks.count(BranchStatus.OK)

    @property
    def failed(self) -> int:
        """Branch runs that failed and have not succeeded since."""
        return self._marks.count(BranchStatus.FAILED)

    @property
    def skipped(self) -> int:
        """Branch runs whose branch does not apply to the item."""
        return self._marks.count(BranchStatus.SKIPPED)

    def is_done(self, item: int, branch: str) -> bool:
        """Return whether this branch run succeeded or was skipped, now or in an earlier run of the chunk."""
        return self._marks.is_done(item, branch)

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Return whether this branch run succeeded, now or in an earlier run of the chunk."""
        return self._marks.is_ok(item, branch)

    def select(self, selection: ItemSelection) -> None:
        """Let the results that follow for selected items count instead of all earlier ones."""
        self._selection = selection

    def generation(self, item: int, branch: str) -> int:
        """Return the generation of the result of this branch run; 0 if it has none."""
        return self._marks.generation(item, branch)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of results that wait for the next part."""
        return self._waiting_bytes

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        if not self._encoded:
            return False
        return (
            self._waiting_bytes >= self._flush_bytes
            or self._clock() - self._waiting_since >= self._flush_seconds
        )

    def add(self, results: Sequence[NewResult]) -> bool:
        """Add results; those that change nothing are ignored.

        A success is final, except for selected items; of any other results the last one counts.

        Returns:
            Whether it is time to flush.

        Raises:
            ObjectDecodeError: an output or error is not a JSON value; the results before it are added.
        """
        has_generations = self._selection is not None or self._marks.last_generation > 0
        if has_generations:
            self._set_generations(results)
        try:
            encoded = self._encoder.encode_lines(results)
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError):
            if len(results) > 1:
                # Find the invalid one, and lose none of those before it.
                for result in results:
                    self.add((result,))
            encode_value(results[0])
            raise
        with self._lock:
            fresh = self._noted(results) if has_generations else self._marks.note_all(results)
            if len(fresh) < len(results):
                encoded = self._encoder.encode_lines(fresh)
            if fresh:
                if not self._encoded:
                    self._waiting_since = self._clock()
                self._items.extend([result.item for result in fresh])
                self._encoded.append(encoded)
                self._waiting_bytes += len(encoded)
            return self.is_due

    def _set_generations(self, results: Sequence[NewResult]) -> None:
        """Give each result its selection's generation, or that of the result that the item and branch have.

        So a result of an item that is selected no longer is compared with the last one as any other is.
        """
        for result in results:
            generation = self._marks.generation(result.item, result.branch)
            if self._selection is not None and result.item in self._selection.items:
                generation = max(generation, self._selection.generation)
            result.generation = generation or msgspec.UNSET

    def _noted(self, results: Sequence[NewResult]) -> list[NewResult]:
        """Note results that can have a generation; return those that change something."""
        note = self._marks.note
        return [
            result
            for result in results
            if note(result.item, result.branch, result.status, result.generation or 0)
        ]

    def add_output(self, item: int, offset: int, branch: str, output: Any) -> bool:
        """Add the output of a branch run that succeeded, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, BranchStatus.OK, output=output),))

    def add_error(self, item: int, offset: int, branch: str, error: Any) -> bool:
        """Add the error object of a branch run that failed, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, BranchStatus.FAILED, error=error),))

    def add_skipped(self, item: int, offset: int, branch: str) -> bool:
        """Add that a branch does not apply to an item, as ``add`` does."""
        return self.add((NewResult(item, offset, branch, BranchStatus.SKIPPED),))

    def flush(self) -> None:
        """Write the results that wait as one part. If that fails, they keep waiting.

        Raises:
            StorageError: raised by the store.
        """
        with self._flushing:
            with self._lock:
                items, self._items = self._items, []
                batches, self._encoded = self._encoded, []
                taken_bytes, self._waiting_bytes = self._waiting_bytes, 0
            if not batches:
                return
            try:
                self._write_part(items, batches)
            except BaseException:
                with self._lock:
                    self._items = items + self._items
                    self._encoded = batches + self._encoded
                    self._waiting_bytes += taken_bytes
                raise

    def finish(self, items: int) -> ChunkSummary:
        """Flush, and write the summary.

        Args:
            items: the number of the chunk's items.

        Raises:
            StorageError: raised by the store.
        """
        self.flush()
        generation = max(self._marks.last_generation, self._selection.generation if self._selection else 0)
        summary = ChunkSummary(items, self.succeeded, self.failed, list(self._keys), self.skipped, generation)
        encoded = self._encoder.encode(summary)
        self._store.write(summary_pointer(self._location), encoded, content_type=JSON_TYPE)
        return summary

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
            error.add_note(f"Results could not be written: {failure}")

    def _write_part(self, items: list[int], batches: list[bytes]) -> None:
        body = b"".join(batches)
        ordered = sorted(items)
        if ordered != items:
            lines = body.splitlines(keepends=True)
            # Sorting is stable: a failure and a success of one item keep their order.
            body = b"".join([lines[number] for number in sorted(range(len(items)), key=items.__getitem__)])
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
