"""Writing a chunk's results while it runs."""

from __future__ import annotations

import time
import uuid
from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from airflow_allma.distributed.chunk_layout import ChunkFile, Part, PartKind, list_parts
from airflow_allma.distributed.failure_index import FailureIndex
from airflow_allma.distributed.item_labels import ItemLabels
from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.part_writer import FLUSH_BYTES, FLUSH_SECONDS, PartWriter, find_marks
from airflow_allma.distributed.result_format import ChunkSummary, read_located
from airflow_allma.distributed.result_index import (
    MARK_BYTES,
    MARK_LINES,
    ChunkIndex,
    ItemTrace,
    PartIndex,
)
from airflow_allma.distributed.result_marks import ResultMarks
from airflow_allma.engine import BranchStatus
from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage.content import encode_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_LINES_TYPE, JSON_TYPE, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = ["NewResult", "ResultWriter"]

_FAILED: Final = BranchStatus.FAILED
_GROW_BY: Final = 4096


class NewResult(msgspec.Struct, gc=False):
    """A ``ResultLine`` whose value is not encoded yet: the whole line is encoded at once."""

    item: int
    offset: int
    branch: str
    status: BranchStatus
    generation: int | msgspec.UnsetType = msgspec.UNSET
    """Set by the writer, where it is not 0."""
    items: int | msgspec.UnsetType = msgspec.UNSET
    """Set where it is not 1."""
    output: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


class ResultWriter:
    """Collects results and writes them as parts; knows what earlier runs of the chunk have written.

    ``add`` never blocks on the store; ``flush`` does, and can be called from another thread. As a context
    manager it flushes at the end, also when the block raises, so that finished results are kept. The caller
    calls ``finish``, which writes the index and the summary, once every item has ended.

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
        flush_bytes: int = FLUSH_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._location = location
        self._encoder = msgspec.json.Encoder()
        writer = uuid.uuid4().hex
        self._parts, self._traces = (
            PartWriter(
                store,
                location,
                kind,
                writer=writer,
                flush_bytes=flush_bytes,
                flush_seconds=flush_seconds,
                clock=clock,
            )
            for kind in (PartKind.RESULTS, PartKind.TRACES)
        )
        self._marks = ResultMarks()
        self._earlier = array("q")
        self._failures = FailureIndex()
        self._untraced = 0
        self._selection: ItemSelection | None = None
        try:
            parts = list_parts(store, location)
        except ObjectNotFoundError:
            # Local folders create their buckets with the first object; S3 refuses the first part.
            parts = []
        if parts:
            self._take_over(parts)

    def _take_over(self, parts: Sequence[Part]) -> None:
        """Note what earlier runs of the chunk have written."""
        for part in parts:
            items: list[int] = []
            ends: list[int] = []
            for offsets, lines in read_located(self._store, part):
                items += [line.item for line in lines]
                ends += offsets
                for line in lines:
                    if self._marks.note(line.item, line.branch, line.status, line.generation):
                        if line.status is _FAILED:
                            self._failures.add(line.item, line.branch, line.offset, line.value())
                        else:
                            self._note_place(line.item, line.offset)
                            if self._failures:
                                self._failures.discard(line.item, line.branch)
            sizes = (end - start for start, end in pairwise([*ends, part.info.size]))
            marks = find_marks(items, ((1, length) for length in sizes))
            self._parts.parts.append(PartIndex.of(part, marks))
        self._parts.sequence = max(part.name.sequence for part in parts) + 1
        traces = list_parts(self._store, self._location, PartKind.TRACES)
        self._traces.sequence = max((part.name.sequence for part in traces), default=-1) + 1
        # Without marks: none of them is large.
        self._traces.parts += [PartIndex.of(part, []) for part in traces]

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

    def earlier_offset(self, item: int) -> int | None:
        """Return where an item was read that an earlier run of the chunk has done; None if it has not."""
        offset = self._earlier[item] if item < len(self._earlier) else -1
        return offset if offset >= 0 else None

    def _note_place(self, item: int, offset: int) -> None:
        missing = item + 1 - len(self._earlier)
        if missing > 0:
            self._earlier.extend(array("q", [-1]) * (missing + _GROW_BY))
        self._earlier[item] = offset

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
        """Bytes of results and traces that wait for the next parts."""
        return self._parts.waiting_bytes + self._traces.waiting_bytes

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        return self._parts.is_due or self._traces.is_due

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
            encoded = self._encode(results)
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError):
            if len(results) > 1:
                # Find the invalid one, and lose none of those before it.
                for result in results:
                    self.add((result,))
            encode_value(results[0])
            raise
        had_failures = self._marks.count(_FAILED) > 0
        fresh = self._noted(results) if has_generations else self._marks.note_all(results)
        if len(fresh) < len(results):
            encoded = self._encode(fresh)
        if fresh:
            if had_failures or self._marks.count(_FAILED):
                self._note_failures(fresh)
            batches, counts = encoded
            self._parts.add([result.item for result in fresh], batches, counts)
        return self.is_due

    def _encode(self, results: Sequence[NewResult]) -> tuple[list[bytes], list[int]]:
        """Return the lines of results in batches that are short enough for marks, and the lines of each."""
        encode_lines = self._encoder.encode_lines
        batches: list[bytes] = []
        counts: list[int] = []
        for start in range(0, len(results), MARK_LINES):
            some = results if len(results) <= MARK_LINES else results[start : start + MARK_LINES]
            lines = encode_lines(some)
            if len(lines) < MARK_BYTES or len(some) == 1:
                batches.append(lines)
                counts.append(len(some))
            else:
                batches += lines.splitlines(keepends=True)
                counts += [1] * len(some)
        return batches, counts

    def _note_failures(self, results: Sequence[NewResult]) -> None:
        failures = self._failures
        for result in results:
            if result.status is _FAILED:
                failures.add(result.item, result.branch, result.offset, result.error)
            elif failures:
                failures.discard(result.item, result.branch)

    def add_trace(self, trace: ItemTrace) -> bool:
        """Add the trace of a branch run before its result; return whether it is time to flush."""
        if generation := self._next_generation(trace.item, trace.branch):
            trace = msgspec.structs.replace(trace, generation=generation)
        self._traces.add([trace.item], [self._encoder.encode_lines((trace,))], [1])
        return self.is_due

    def skip_trace(self) -> None:
        """Count a failed branch run that has no trace, since there are too many."""
        self._untraced += 1

    def _set_generations(self, results: Sequence[NewResult]) -> None:
        """Give each result its selection's generation, or that of the result that the item and branch have.

        So a result of an item that is selected no longer is compared with the last one as any other is.
        """
        for result in results:
            result.generation = self._next_generation(result.item, result.branch) or msgspec.UNSET

    def _next_generation(self, item: int, branch: str) -> int:
        generation = self._marks.generation(item, branch)
        if self._selection is not None and item in self._selection.items:
            return max(generation, self._selection.generation)
        return generation

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
        """Write what waits as parts. If that fails, it keeps waiting.

        Raises:
            StorageError: raised by the store.
        """
        self._parts.flush()
        self._traces.flush()

    def finish(self, items: int, labels: ItemLabels | None = None) -> ChunkSummary:
        """Flush, and write the index and the summary.

        Args:
            items: the number of the chunk's items.
            labels: the labels of the items; None if they are not known.

        Raises:
            StorageError: raised by the store.
        """
        self.flush()
        self._write_index(items, labels)
        generation = max(self._marks.last_generation, self._selection.generation if self._selection else 0)
        keys = [part.key for part in self._parts.parts]
        summary = ChunkSummary(items, self.succeeded, self.failed, keys, self.skipped, generation)
        self._write(ChunkFile.SUMMARY.pointer(self._location), self._encoder.encode(summary))
        return summary

    def _write_index(self, items: int, labels: ItemLabels | None) -> None:
        label_of = (lambda _: "") if labels is None else labels.read()
        failures = self._failures.lines(label_of)
        if failures:
            lines = self._encoder.encode_lines(failures)
            self._write(ChunkFile.FAILURES.pointer(self._location), lines, JSON_LINES_TYPE)
        index = ChunkIndex(
            items,
            self.succeeded,
            self.failed,
            self.skipped,
            self._parts.parts,
            self._failures.kinds(),
            len(failures),
            labels is not None and labels.are_stored,
            self._traces.parts,
            self._untraced,
        )
        self._write(ChunkFile.INDEX.pointer(self._location), self._encoder.encode(index))

    def _write(self, pointer: Pointer, data: bytes, content_type: str = JSON_TYPE) -> None:
        self._store.write(pointer, data, content_type=content_type)

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
