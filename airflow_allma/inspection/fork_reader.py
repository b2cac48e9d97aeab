"""The chunks of a fork together: which item is where, and reads of many chunks at the same time."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import compress
from typing import Final, TypeVar

from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.engine.readers import count_items, is_counted_by_range
from airflow_allma.exceptions import InspectionError, ItemNotFoundError, ObjectNotFoundError
from airflow_allma.inspection.chunk_files import ChunkListing, list_chunks
from airflow_allma.inspection.chunk_reader import ChunkReader, FailureList
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.read_budget import Budget
from airflow_allma.inspection.result_lookup import ByteJob
from airflow_allma.inspection.stored_lines import KEEP_BYTES, FoundLine
from airflow_allma.storage import OffloadLocation

__all__ = ["ForkReader", "ItemPosition", "in_threads"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_THREADS: Final = 16
_LISTED_ONE_BY_ONE: Final = 8
"""More chunks than these are listed with one call for the whole fork."""
_LISTING_SECONDS: Final = 2.0
_COUNTED_AHEAD: Final = 4
"""Chunks whose lines are counted at the same time."""
_EMPTY: Final = ChunkListing()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="allma-inspection")


def in_threads(
    function: Callable[[_T], _R], values: Sequence[_T], at_hand: Callable[[_T], bool] | None = None
) -> list[_R]:
    """Return the results of a function that reads from a store, for several values at the same time.

    The function must not call this one: the threads are few, and would wait for each other.

    Args:
        function: reads.
        values: its arguments.
        at_hand: returns whether the function reads nothing for a value, so that a thread would cost more than
            it saves.
    """
    needs_thread = [at_hand is None or not at_hand(value) for value in values]
    if sum(needs_thread) < 2:
        return [function(value) for value in values]
    read = _pool().map(function, compress(values, needs_thread))
    # What is at hand first, while the threads read.
    found = [
        None if is_slow else (function(value),) for value, is_slow in zip(values, needs_thread, strict=True)
    ]
    return [next(read) if result is None else result[0] for result in found]


@dataclass(frozen=True, slots=True)
class ItemPosition:
    """An item and where it is.

    Attributes:
        index: its index among all items; None if it cannot be counted yet.
        chunk: the position of its chunk in the plan.
        item: its index in the chunk, from 0.
    """

    index: int | None
    chunk: int
    item: int


class ForkReader:
    """Reads what the chunks of a fork have stored.

    Args:
        view: the fork.
        budget: how much may be read.

    Attributes:
        lost: the numbers of chunks whose results were deleted, as far as they were asked for.
        is_stopped: whether a search ended because of the budget.
        scope: the chunks that are looked at, by their positions in the plan: all, or those of a query.
    """

    def __init__(self, view: ForkView, budget: Budget | None = None) -> None:
        self.view = view
        self.budget = budget or Budget()
        self.chunks = [ChunkReader(view, spec, self._list) for spec in view.plan.chunks]
        self.lost: set[int] = set()
        self.is_stopped = False
        self.scope = range(len(self.chunks))
        self._lock = threading.Lock()
        self._listed_one_by_one = 0
        self._all_listed: Mapping[int, ChunkListing] | None = None
        # The index of each chunk's first item, as far as it is known; one more for the end.
        self._firsts: list[int] = [0]

    def further_reader(self, number: int) -> ChunkReader:
        """Return a further reader of a chunk, whose content is not kept with that of the others."""
        return ChunkReader(self.view, self.view.plan.chunks[number], self._list)

    def limit_to(self, number: int) -> None:
        """Look at one chunk only.

        Raises:
            InspectionError: the plan has no chunk with this number.
        """
        if not 0 <= number < len(self.chunks):
            raise InspectionError(f"There is no chunk {number}: the fork has {len(self.chunks)} chunks.")
        self.scope = range(number, number + 1)

    @property
    def scoped_chunks(self) -> list[ChunkReader]:
        """The chunks that are looked at."""
        return self.chunks[self.scope.start : self.scope.stop]

    # Where items are.

    def first_of(self, chunk: int, *, counts_lines: bool = True) -> int | None:
        """Return the index of a chunk's first item; None if items before it cannot be counted yet.

        Args:
            chunk: the position of the chunk in the plan; the number of chunks for the end.
            counts_lines: whether the lines of chunks that have not ended are read to count them.

        Raises:
            StorageError: raised by the store.
        """
        planned = self.view.plan.chunks[chunk].first if chunk < len(self.chunks) else self.view.plan.items
        if planned is not None:
            return planned
        self._count_until(lambda: len(self._firsts) > chunk, counts_lines=counts_lines)
        return self._firsts[chunk] if len(self._firsts) > chunk else None

    @property
    def items(self) -> int | None:
        """The number of the fork's items; None if it is not known yet. No lines are read to count them.

        Raises:
            StorageError: raised by the store.
        """
        return self.first_of(len(self.chunks), counts_lines=False)

    def has(self, index: int) -> bool:
        """Return whether there is an item of this index in what is looked at, as far as it is known.

        Raises:
            StorageError: raised by the store.
        """
        position = self.find_item(index)
        return position is not None and position.chunk in self.scope

    def find_item(self, index: int) -> ItemPosition | None:
        """Return where an item is; None if there is none of this index, or its chunk is not known yet.

        Raises:
            StorageError: raised by the store.
        """
        planned = self._planned_firsts
        if planned is not None:
            chunk = bisect_right(planned, index) - 1
            count = self.view.plan.chunks[chunk].count if chunk >= 0 else 0
            is_inside = index >= 0 and chunk >= 0 and index - planned[chunk] < (count or 0)
            return ItemPosition(index, chunk, index - planned[chunk]) if is_inside else None
        self._count_until(lambda: self._firsts[-1] > index)
        chunk = bisect_right(self._firsts, index) - 1
        if index < 0 or chunk >= len(self._firsts) - 1:
            return None
        return ItemPosition(index, chunk, index - self._firsts[chunk])

    def require_item(self, index: int) -> ItemPosition:
        """Return where an item is.

        Raises:
            ItemNotFoundError: there is none of this index, or its chunk is not known yet.
            StorageError: raised by the store.
        """
        position = self.find_item(index)
        if position is not None:
            return position
        items = self.first_of(len(self.chunks))
        if items is None and index >= 0:
            raise ItemNotFoundError(
                f"Item {index} has no number yet: a chunk before it has not ended, and its items are not "
                f"counted. Items 0 to {self.known_items - 1} can be opened."
            )
        has = "no items" if not items else f"{items} items: 0 to {items - 1}"
        raise ItemNotFoundError(f"There is no item {index}: {self.view.fork_id} has {has}.")

    @property
    def known_items(self) -> int:
        """How many items have an index so far; all of them if ``items`` is known."""
        items = self.items
        return self._firsts[-1] if items is None else items

    def start_from(self, index: int) -> int:
        """Return the first index of what is looked at that is not before a given one.

        A chunk whose first item has no index yet has no pages by index: then it is the end of all of them.
        """
        if not self.scope.start:
            return index
        first = self.first_of(self.scope.start)
        return self.known_items if first is None else max(index, first)

    @cached_property
    def _planned_firsts(self) -> list[int] | None:
        firsts = [chunk.first for chunk in self.view.plan.chunks if chunk.count is not None]
        known = [first for first in firsts if first is not None]
        return known if known and len(known) == len(self.chunks) else None

    def _count_until(self, is_enough: Callable[[], bool], *, counts_lines: bool = True) -> None:
        """Count the items of one chunk after the other until it is enough, or one cannot be counted."""
        while len(self._firsts) <= len(self.chunks) and not is_enough():
            at = len(self._firsts) - 1
            chunks = self.chunks[at : at + 4 * _THREADS]
            if self._add_counts(in_threads(lambda chunk: chunk.items, chunks, _has_known_count)):
                continue
            ahead = self.chunks[at : at + _COUNTED_AHEAD]
            if not counts_lines or not self._add_counts(in_threads(self._count, ahead)):
                return

    def _add_counts(self, counts: Iterable[int | None]) -> int:
        """Add the items of the chunks that follow, up to one that is not known; return of how many."""
        added = 0
        for count in counts:
            if count is None:
                break
            self._firsts.append(self._firsts[-1] + count)
            added += 1
        return added

    def _count(self, chunk: ChunkReader) -> int | None:
        items = chunk.items
        lines = chunk.spec.manifest
        if items is not None or lines is None:
            return items
        if not is_counted_by_range(lines):
            # Its files may be large: only the chunk's task reads them.
            return None
        key = ("lines", lines.pointer, lines.etag, lines.range)
        size = lines.range.end - lines.range.start

        def count() -> tuple[int, int]:
            self.budget.spend(size)
            return count_items(self.view.store, lines), 200

        if size > self.budget.bytes_left and not self.view.cache.has(key):
            return None
        return self.view.cache.get(key, count)

    # Reading several chunks.

    def load(self, chunks: Iterable[ChunkReader]) -> None:
        """Find the files of chunks at the same time.

        Raises:
            StorageError: raised by the store.
        """
        chunks = list(chunks)
        in_threads(lambda chunk: chunk.files, chunks, lambda chunk: chunk.has_at_hand(ChunkFile.INDEX))
        self.lost.update(chunk.number for chunk in chunks if chunk.is_missing)

    def failures(self, number: int) -> FailureList:
        """Return the listed failures of a chunk.

        Raises:
            StorageError: raised by the store.
        """
        chunk = self.chunks[number]
        try:
            failures = chunk.failures
        except ObjectNotFoundError:
            self.lost.add(chunk.number)
            return FailureList((), is_complete=False)
        if chunk.is_missing:
            self.lost.add(chunk.number)
        return failures

    def results(
        self, items: Mapping[int, Sequence[int]], keep: int = KEEP_BYTES
    ) -> dict[int, dict[int, list[FoundLine]]]:
        """Return chunk -> item -> the result that counts of each branch.

        Args:
            items: chunk -> items of the chunk, in order and each once.
            keep: of large values at most these bytes are read.

        Raises:
            StorageError: raised by the store, also for results that have been deleted.
        """
        self.load(self.chunks[number] for number in items)
        jobs = [
            (number, job)
            for number, wanted in items.items()
            if self.chunks[number].inline is None
            for job in self.chunks[number].jobs(wanted)
        ]

        def read(pair: tuple[int, ByteJob]) -> list[FoundLine]:
            number, job = pair
            self.budget.spend(job.end - job.start)
            try:
                return self.chunks[number].read(job, keep)
            except ObjectNotFoundError:
                self.lost.add(self.chunks[number].number)
                return []

        found: dict[int, list[tuple[ByteJob, list[FoundLine]]]] = {}
        for (number, job), lines in zip(jobs, in_threads(read, jobs), strict=True):
            found.setdefault(number, []).append((job, lines))
        return {
            number: (
                self.chunks[number].final(found.get(number, ()))
                if self.chunks[number].inline is None
                else self.chunks[number].inline_results(wanted)
            )
            for number, wanted in items.items()
        }

    def affordable(self, items: Sequence[ItemPosition]) -> Sequence[ItemPosition]:
        """Return as many of the items, which are in order, as the budget allows to read; at least one.

        Raises:
            StorageError: raised by the store.
        """
        self.load(self.chunks[number] for number in {position.chunk for position in items})
        while len(items) > 1 and self._bytes_of(items) > self.budget.bytes_left:
            items = items[: len(items) // 2]
        return items

    def _bytes_of(self, items: Sequence[ItemPosition]) -> int:
        of_chunk: dict[int, list[int]] = {}
        for position in items:
            of_chunk.setdefault(position.chunk, []).append(position.item)
        jobs = (job for number, wanted in of_chunk.items() for job in self.chunks[number].jobs(wanted))
        return sum(job.end - job.start for job in jobs)

    # Listings.

    def _list(self, number: int) -> ChunkListing:
        """Return what is in a chunk's folder, as it was when it was first asked for."""
        folder = self.view.results_folder
        if folder is None:
            return _EMPTY
        with self._lock:
            if self._all_listed is None and self._listed_one_by_one == _LISTED_ONE_BY_ONE:
                self._all_listed = self._listing(folder, None)
            if self._all_listed is not None:
                return self._all_listed.get(number, _EMPTY)
            self._listed_one_by_one += 1
        return self._listing(folder, number).get(number, _EMPTY)

    def _listing(self, folder: OffloadLocation, number: int | None) -> Mapping[int, ChunkListing]:
        def read() -> tuple[dict[int, ChunkListing], int]:
            try:
                found = list_chunks(self.view.store, folder, number)
            except ObjectNotFoundError:
                # A bucket, or a folder on disk, that does not exist yet.
                found = {}
            entries = sum(
                len(listing.parts) + len(listing.traces) + len(listing.etags) for listing in found.values()
            )
            return found, 600 * entries

        return self.view.cache.get(("listing", folder, number), read, seconds=_LISTING_SECONDS)


def _has_known_count(chunk: ChunkReader) -> bool:
    return chunk.handed_on_items is not None
