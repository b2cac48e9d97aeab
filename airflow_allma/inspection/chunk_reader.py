"""What one chunk has stored: counts, the results of single items, failures, labels, traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_allma.common.lazy_property import lazy_property
from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.result_index import MAX_LISTED_FAILURES, FailureLine
from airflow_allma.engine import BranchResult
from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.inspection.chunk_files import ChunkFiles, ChunkListing
from airflow_allma.inspection.chunk_objects import ENTRY_BYTES, ChunkObjects
from airflow_allma.inspection.failure_entries import failure_line
from airflow_allma.inspection.fork_view import ChunkState, ForkView
from airflow_allma.inspection.result_lookup import (
    ByteJob,
    byte_jobs,
    failed_results,
    final_by_item,
    handed_on_line,
    read_job,
)
from airflow_allma.inspection.stored_lines import KEEP_BYTES, FoundLine

__all__ = ["ChunkCounts", "ChunkReader", "FailureList"]

_MAX_SCANNED_BYTES: Final = 32 << 20
"""Results of a chunk without an index that are read to find its failures."""


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """How the branch runs of a chunk ended.

    Attributes:
        items: the number of its items; None as long as it is not known.
        ended: items that have ended, about: an item that ran twice can count twice while the chunk runs.
        succeeded: branch runs that ended well; None as long as they are not counted.
        failed: branch runs that failed; None as long as they are not counted.
        skipped: branch runs whose branch does not apply; None as long as they are not counted.
        is_final: whether the numbers are those of a chunk that has ended.
    """

    items: int | None
    ended: int
    succeeded: int | None = None
    failed: int | None = None
    skipped: int | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class FailureList:
    """Failures of a chunk.

    Attributes:
        entries: in the order of items, then branches.
        is_complete: whether no other branch run of the chunk has failed so far.
    """

    entries: Sequence[FailureLine] = ()
    is_complete: bool = True


class ChunkReader:
    """Reads what one chunk has stored. Everything is read when it is first asked for.

    Args:
        view: the fork.
        spec: the chunk.
        list_folder: returns what is in the chunk's folder; called only if its index cannot be trusted.

    Attributes:
        objects: the single objects beside the results.
        has_unlisted_failures: whether pages cannot list all failures of the chunk; False as long as nothing
            that was read says so.
    """

    def __init__(
        self,
        view: ForkView,
        spec: ChunkSpec,
        list_folder: Callable[[int], ChunkListing],
    ) -> None:
        self.spec = spec
        self.state: ChunkState = view.state(spec.number)
        self._view = view
        self._store = view.store
        self._folder = view.folder(spec.number)
        self.objects = ChunkObjects(view, spec.number, list_folder)
        self.has_unlisted_failures = False

    @property
    def number(self) -> int:
        """The chunk's number."""
        return self.spec.number

    @lazy_property
    def inline(self) -> list[FoundLine] | None:
        """The results of a chunk that stored none but handed them on; None for others.

        Raises:
            ObjectDecodeError: what it handed on is something else.
        """
        handed_on = self.state.handed_on
        if handed_on is None or "results" not in handed_on:
            return [] if self._folder is None else None
        try:
            saved = [(int(item), BranchResult.from_dict(result)) for item, result in handed_on["results"]]
        except (TypeError, ValueError) as error:
            # Users can write XComs, too.
            raise ObjectDecodeError(
                f"What chunk {self.number} handed on is not a list of results: {error}. Clear its task."
            ) from error
        return sorted((handed_on_line(item, result) for item, result in saved), key=lambda line: line.item)

    @lazy_property
    def files(self) -> ChunkFiles:
        """The objects of the chunk.

        Raises:
            StorageError: raised by the store.
        """
        if self.inline is not None:
            return ChunkFiles()
        files = self.objects.files
        if files.index is not None:
            self.has_unlisted_failures = files.index.listed_failures < files.index.failed
        return files

    @lazy_property
    def counts(self) -> ChunkCounts:
        """How many items the chunk has, and how they ended.

        Raises:
            StorageError: raised by the store.
        """
        if self.inline is not None:
            return self._inline_counts(self.inline)
        index = self.files.index
        if index is not None:
            return ChunkCounts(
                index.items, index.items, index.succeeded, index.failed, index.skipped, is_final=True
            )
        parts = self.files.parts
        summary = self.objects.summary()
        if summary is not None and sorted(summary.parts) == sorted(part.pointer.key for part in parts):
            counted = (summary.succeeded, summary.failed, summary.skipped)
            return ChunkCounts(summary.items, summary.items, *counted, is_final=True)
        branches = 1 if self._view.first_only else max(len(self._view.branches), 1)
        ended = sum(part.count for part in parts) // branches
        if self.spec.count is not None:
            ended = min(ended, self.spec.count)
        items = self._handed_on_items if self.spec.count is None else self.spec.count
        return ChunkCounts(items, ended, 0 if not parts else None, 0 if not parts else None, None)

    @property
    def _handed_on_failed(self) -> int | None:
        """How many branch runs failed, if the chunk handed that on: it says items, which are more seldom."""
        handed_on = self.state.handed_on
        if handed_on is None or "failed" not in handed_on or "results" in handed_on:
            return None
        failed = int(handed_on["failed"])
        return failed if not failed or len(self._view.branches) == 1 else None

    @property
    def failed(self) -> int | None:
        """How many branch runs failed, without reading anything if possible; None if it is not known."""
        handed_on = self._handed_on_failed
        return self.counts.failed if handed_on is None else handed_on

    @property
    def has_short_list(self) -> bool:
        """Whether it is known without reading that all failures are listed."""
        failed = self._handed_on_failed
        return failed is not None and failed <= MAX_LISTED_FAILURES

    @property
    def is_final(self) -> bool:
        """Whether the chunk has ended, without reading anything if that is known so."""
        return self._handed_on_failed is not None or self.counts.is_final

    @property
    def is_missing(self) -> bool:
        """Whether the chunk has ended with items, but nothing of it is stored any more."""
        if self._folder is None or self.inline is not None or not self.state.handed_on:
            return False
        return self.files.is_empty and bool(self._handed_on_items)

    @property
    def _handed_on_items(self) -> int | None:
        handed_on = self.state.handed_on
        return None if handed_on is None else int(handed_on["items"])

    @property
    def handed_on_items(self) -> int | None:
        """The number of the chunk's items if it was planned or handed on; nothing is read."""
        return self._handed_on_items if self.spec.count is None else self.spec.count

    def has_at_hand(self, name: ChunkFile) -> bool:
        """Return whether an object beside the results can be had without reading it."""
        return self.inline is not None or self.objects.has_at_hand(name)

    @property
    def items(self) -> int | None:
        """The number of the chunk's items, without reading anything if it is known so."""
        handed_on = self.handed_on_items
        return self.counts.items if handed_on is None else handed_on

    def _inline_counts(self, lines: list[FoundLine]) -> ChunkCounts:
        number = {"ok": 0, "failed": 0, "skipped": 0}
        for line in lines:
            number[line.status] += 1
        is_final = self.state.handed_on is not None
        items = self.spec.count if self.spec.count is not None else self._handed_on_items
        ended = len({line.item for line in lines})
        return ChunkCounts(items, ended, number["ok"], number["failed"], number["skipped"], is_final=is_final)

    # Results of single items.

    def jobs(self, items: Sequence[int]) -> list[ByteJob]:
        """Return what to read for the results of some items, in order and each once.

        Raises:
            StorageError: raised by the store.
        """
        return byte_jobs(self.files.parts, items)

    def read(self, job: ByteJob, keep: int = KEEP_BYTES) -> list[FoundLine]:
        """Return the results of a job's items, see ``read_job``."""
        return read_job(self._store, job, keep)

    def offset_of(self, item: int) -> int | None:
        """Return where the line of an item begins in the manifest, if a result of it says so.

        Raises:
            StorageError: raised by the store.
        """
        for job in self.jobs((item,)):
            for line in self.read(job, 0):
                return line.offset
        return None

    def final(self, results: Sequence[tuple[ByteJob, list[FoundLine]]]) -> dict[int, list[FoundLine]]:
        """Return item -> the result that counts of each branch, by branch, from what was read.

        Args:
            results: the jobs and what ``read`` returned for them.
        """
        in_order = sorted(results, key=lambda pair: (pair[0].part.order, pair[0].start))
        return final_by_item((line for _, lines in in_order for line in lines), self._view.branches)

    def inline_results(self, items: Sequence[int]) -> dict[int, list[FoundLine]]:
        """Return item -> results, as ``final``, of results that were handed on."""
        wanted = set(items)
        return final_by_item((line for line in self.inline or () if line.item in wanted), self._view.branches)

    # Failures.

    @lazy_property
    def failures(self) -> FailureList:
        """The first failures of the chunk, so far.

        Raises:
            StorageError: raised by the store.
        """
        failures = self._read_failures()
        self.has_unlisted_failures = not failures.is_complete
        return failures

    def _read_failures(self) -> FailureList:
        if self.inline is not None:
            return _listed(
                failure_line(line.item, line.branch, max(line.offset, 0), msgspec.json.decode(line.value))
                for line in self.inline
                if line.status == "failed"
            )
        index = self.files.index
        if index is None:
            key = ("failures", self._folder, tuple(part.pointer.key for part in self.files.parts))
            return self._view.cache.get(key, self._scanned)
        if not index.failed:
            return FailureList()
        entries = self.objects.failures()
        return FailureList(entries, len(entries) >= index.failed)

    def _scanned(self) -> tuple[FailureList, int]:
        """Return the failures in the parts of a chunk that has no index."""
        if sum(part.bytes for part in self.files.parts) > _MAX_SCANNED_BYTES:
            return FailureList((), is_complete=False), 0
        found = _listed(
            failure_line(item, branch, offset, error) for item, offset, branch, error in self.failed_results()
        )
        return found, len(found.entries) * ENTRY_BYTES

    def failed_results(self) -> Iterator[tuple[int, int, str, Any]]:
        """Yield item, offset, branch and error object of all failures, by item; reads all results.

        Raises:
            StorageError: raised by the store.
        """
        if self._folder is None:
            return iter(())
        return failed_results(self._store, self._folder, self.files.parts, self._view.branches)

    # Labels and traces.

    @lazy_property
    def labels(self) -> bytes | None:
        """The labels, one line for each item; None if they are not stored, or say no more than the index.

        Raises:
            StorageError: raised by the store.
        """
        index = self.files.index
        if index is None or not index.labels:
            return None
        return self.objects.labels()

    @lazy_property
    def _label_lines(self) -> list[bytes]:
        try:
            labels = self.labels
        except ObjectNotFoundError:
            # Deleted since the index was read: whoever reads results finds out, and says so.
            return []
        return [] if labels is None else labels.split(b"\n")

    def label(self, item: int) -> str | None:
        """Return the stored label of an item of the chunk; None if there is none."""
        if item >= len(self._label_lines):
            return None
        return self._label_lines[item].decode(errors="replace")

    def search_labels(self, text: bytes) -> list[int]:
        """Return the items whose label contains a text, which is in lower case.

        Raises:
            StorageError: raised by the store.
        """
        labels = (self.labels or b"").lower()
        items, item, counted = [], 0, 0
        at = labels.find(text) if text else -1
        while at >= 0:
            item += labels.count(b"\n", counted, at)
            items.append(item)
            counted = labels.find(b"\n", at)
            if counted < 0:
                break
            at = labels.find(text, counted)
        return items


def _listed(failures: Iterator[FailureLine]) -> FailureList:
    entries: list[FailureLine] = []
    for failure in failures:
        if len(entries) == MAX_LISTED_FAILURES:
            return FailureList(entries, is_complete=False)
        entries.append(failure)
    return FailureList(entries)
