"""Runs the items of a chunk that have no success yet, with progress in the log.

Branch runs that wait for events end up in the sink's ``parked``. A process that comes later finds them there.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from airflow_allma.common.batching import batched
from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.chunk_progress import Progress
from airflow_allma.distributed.chunk_traces import traced_run
from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.lost_results import unwritable_result
from airflow_allma.distributed.parked_runs import RunKey
from airflow_allma.distributed.result_sinks import ResultSink
from airflow_allma.engine import BranchResult, BranchStatus, CompiledBranch, ForkRun, run_items
from airflow_allma.engine.pointer_loading import require_store
from airflow_allma.engine.readers import ItemOffsets, range_batches
from airflow_allma.engine.suspended_runs import ParkedRun
from airflow_allma.engine.suspension import Wait, is_over
from airflow_allma.exceptions import ObjectChangedError, ObjectDecodeError

__all__ = ["ChunkRun"]

_OFFSET: Final = "offset"
"""Where a parked run's item begins in the manifest, among what is kept of the run."""

_TICK_SECONDS: Final = 1.0
_PROGRESS_SECONDS: Final = 5.0
_COLLECT_AFTER: Final = 50_000
"""Objects between two collections of the youngest generation; Python's default is 700."""


@contextmanager
def _infrequent_collections() -> Iterator[None]:
    """Collect garbage less often: items leave no reference cycles, and looking for them takes long."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class ChunkRun:
    """One run of a chunk's items through a fork's branches.

    Args:
        run: the fork and the data its branches see.
        chunk: the chunk.
        sink: receives the results, and knows those of earlier tries.
        log: gets a line of progress every few seconds.
        tick_seconds: how often the sink can write what has waited.
        progress_seconds: how often progress is logged.

    Attributes:
        progress: the progress of the chunk.
        selection: the only items that run, if some are selected.
    """

    def __init__(
        self,
        run: ForkRun,
        chunk: ChunkSpec,
        sink: ResultSink,
        log: logging.Logger,
        *,
        tick_seconds: float = _TICK_SECONDS,
        progress_seconds: float = _PROGRESS_SECONDS,
    ) -> None:
        self.progress = Progress(chunk)
        self.selection: ItemSelection | None = None
        self._run_of_fork, self._traces = traced_run(run, sink, chunk.first or 0)
        self._chunk = chunk
        self._sink = sink
        self._log = log
        self._tick_seconds = tick_seconds
        self._progress_seconds = progress_seconds
        self._first = chunk.first or 0
        self._offsets = ItemOffsets(chunk.manifest)
        # Without waiting steps no read can keep another item waiting, so that reading needs no thread.
        self._blocking = chunk.manifest is not None and not run.fork.runs_inline(run.services)
        self._is_fresh = sink.is_empty
        self._failed: set[tuple[int, str]] = set()
        self._continued: set[int] = set()

    @property
    def waits(self) -> list[Wait]:
        """What the chunk's branch runs wait for."""
        runs = (ParkedRun.from_dict(kept) for _, kept in self._sink.parked)
        return [wait for run in runs for wait in run.waits]

    async def run(
        self,
        concurrency: int,
        values: Callable[[], Sequence[Any]],
        *,
        keeps_failures: bool = False,
        selection: ItemSelection | None = None,
    ) -> None:
        """Run what has no success yet; branch runs that an earlier try left waiting continue.

        Args:
            concurrency: maximum of branch runs in flight.
            values: returns the fork's whole list; called only for a chunk of a list.
            keeps_failures: whether items that failed do not run again.
            selection: the only items that run, good ones too, once each; of what it names an earlier try can
                have run a part.

        Raises:
            AllmaError: the items cannot be read, are not those that were planned, or the results cannot be
                stored.
        """
        if selection is not None:
            self.select(selection)
        parked = [(key, self._parked_run(key, kept)) for key, kept in self._sink.parked]
        # A result can have been stored just before the process was killed.
        ended = [key for key, _ in parked if self._sink.is_done(*key) and not self._is_outdated(*key)]
        for key in ended:
            self._sink.parked.remove(key)
        if keeps_failures or selection is not None:
            self._keep_failures()
        continued = [run for key, run in parked if key in self._sink.parked]
        self._continued = {key.item for key, _ in parked if key in self._sink.parked}
        await self._run(concurrency, self._remaining(self._source(values)), continued)
        self._chunk.require_count(self.progress.items)

    def select(self, selection: ItemSelection) -> None:
        """Let results of selected items count instead of earlier ones; also before ``wake``."""
        self.selection = selection
        self._sink.select(selection)

    def _is_outdated(self, item: int, branch: str) -> bool:
        """Return whether a branch run is selected and has not run since."""
        selection = self.selection
        return (
            selection is not None
            and item in selection.items
            and self._sink.generation(item, branch) < selection.generation
        )

    def _keep_failures(self) -> None:
        """Let the failures of an earlier try stand, except those of branch runs that run or wait again."""
        indexes = {branch.branch_id: branch.index for branch in self._run_of_fork.fork.branches}
        for item, branch, error in self._sink.failures():
            runs_again = RunKey(item, branch) in self._sink.parked or self._is_outdated(item, branch)
            if branch in indexes and not runs_again:
                self._failed.add((item, branch))
                result = BranchResult(
                    self._first + item, indexes[branch], branch, BranchStatus.FAILED, error=error
                )
                self.progress.failures.add(item, result)

    async def wake(self, concurrency: int, saved: Mapping[str, Any]) -> None:
        """Continue the branch runs whose event has arrived or whose time is over; all others keep waiting.

        Args:
            concurrency: maximum of branch runs in flight.
            saved: the progress of the process before, as ``Progress.to_dict`` returned it.

        Raises:
            AllmaError: the results cannot be stored.
        """
        self.progress.restore(saved)
        services = self._run_of_fork.services
        now = services.now()
        continued = []
        for key, kept in self._sink.parked:
            run = self._parked_run(key, kept)
            if is_over(run.waits, services.answers, now):
                continued.append(run)
        await self._run(concurrency, (), continued)

    async def _run(
        self,
        concurrency: int,
        items: Iterable[Sequence[tuple[int, Any]]],
        continued: Sequence[ParkedRun],
    ) -> None:
        parked = self._sink.parked
        awake = {self._key_of(run) for run in continued}
        held = [wait.key for key, kept in parked if key not in awake for wait in _waits_of(kept)]
        self.progress.waiting = len(parked) - len(continued)
        try:
            async with asyncio.TaskGroup() as group:
                ticker = group.create_task(self._tick())
                with _infrequent_collections():
                    waiting = await run_items(
                        self._run_of_fork,
                        items,
                        self._add,
                        concurrency=concurrency,
                        blocking=self._blocking,
                        continued=continued,
                        omit=self._omit if self._run_of_fork.fork.suspends else None,
                        held_keys=held,
                    )
                ticker.cancel()
        except BaseExceptionGroup as errors:
            # One of the two failed, and the other was cancelled because of that.
            raise errors.exceptions[0] from None
        for key in awake:
            parked.remove(key)
        for run in waiting:
            key = self._key_of(run)
            parked.add(key, {**run.to_dict(), _OFFSET: self._offsets.of(key.item)})
        self.progress.waiting = len(parked)

    def _parked_run(self, key: RunKey, kept: Any) -> ParkedRun:
        """Return a branch run that was kept; the offset of its line is known from now on."""
        self._offsets.restore(key.item, kept[_OFFSET])
        return ParkedRun.from_dict(kept)

    def _key_of(self, run: ParkedRun) -> RunKey:
        branch = self._run_of_fork.fork.branches[run.branch_index]
        return RunKey(run.item_index - self._first, branch.branch_id)

    def _omit(self, index: int, branches: Sequence[CompiledBranch]) -> bool:
        """Return whether none of the branches has to begin for an item: one waits, or all are done."""
        item = index - self._first
        if any(RunKey(item, branch.branch_id) in self._sink.parked for branch in branches):
            return True
        if self._is_fresh:
            return False
        if len(branches) > 1 and any((item, branch.branch_id) in self._failed for branch in branches):
            return True
        return all(self._has_ended(item, branch) for branch in branches)

    def _source(self, values: Callable[[], Sequence[Any]]) -> Iterable[Sequence[tuple[int, Any]]]:
        """Yield pairs of index in the chunk and item, in batches."""
        chunk = self._chunk
        if chunk.manifest is None:
            return batched(enumerate(chunk.slice_of(values())))
        store = require_store(self._run_of_fork.services, chunk.manifest.pointer)
        return self._offsets.track(range_batches(store, chunk.manifest))

    def _remaining(self, source: Iterable[Sequence[tuple[int, Any]]]) -> Iterator[Sequence[tuple[int, Any]]]:
        """Yield the batches without what is done, with indexes among all items."""
        progress, first = self.progress, self._first
        for batch in source:
            progress.items += len(batch)
            self._sink.note_items(batch)
            remaining = batch
            if not self._is_fresh:
                self._check_places(batch)
                remaining = [pair for pair in batch if not self._is_done(pair[0])]
                # Items that continue in this try can have ended before they are read.
                left = {item for item, _ in remaining} | self._continued
                progress.reused += sum(item not in left for item, _ in batch)
            yield [(first + index, item) for index, item in remaining] if first else remaining

    def _check_places(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Check that done items are where they were: a file that could not be read was one item.

        Raises:
            ObjectChangedError: results would be given to other items.
        """
        if self._chunk.manifest is None:
            return
        for item, _ in batch:
            before = self._sink.earlier_offset(item)
            if before is not None and before != self._offsets.of(item):
                raise ObjectChangedError(
                    f"Item {item} of this chunk of {self._chunk.manifest.pointer} is not the one that has a "
                    "result of an earlier try: a file before it can be read now and could not then, or the "
                    "reverse. Clear the fork's items task and its downstream tasks to plan the fork again; "
                    "all of its items then run."
                )

    def _is_done(self, item: int) -> bool:
        """Return whether no branch has to run again for an item of the chunk."""
        if self.selection is not None and item not in self.selection.items:
            return True
        fork = self._run_of_fork.fork
        if fork.first_only and any(self._has_applied(item, branch) for branch in fork.branches):
            return True
        return all(self._has_ended(item, branch) for branch in fork.branches)

    def _has_applied(self, item: int, branch: CompiledBranch) -> bool:
        key = (item, branch.branch_id)
        return (self._sink.has_succeeded(*key) or key in self._failed) and not self._is_outdated(*key)

    def _has_ended(self, item: int, branch: CompiledBranch) -> bool:
        key = (item, branch.branch_id)
        return (self._sink.is_done(*key) or key in self._failed) and not self._is_outdated(*key)

    def _add(self, results: Sequence[BranchResult]) -> None:
        annotated = self._offsets.annotate(results, self._first)
        try:
            self._sink.add(annotated, self._first, self._offsets.of)
        except ObjectDecodeError as error:
            # One output that cannot be written fails alone. The sink ignores successes that it already has.
            if len(results) > 1:
                for result in results:
                    self._add((result,))
            else:
                failure = unwritable_result(results[0], error)
                if self._traces is not None:
                    self._traces.add_unwritable(failure)
                self._add((failure,))
            return
        if annotated is not results:
            for result in annotated:
                self.progress.failures.add(result.item_index - self._first, result)
        self.progress.ended += self._ended(annotated)

    def _ended(self, results: Sequence[BranchResult]) -> int:
        """Return how many items have ended with these results."""
        fork = self._run_of_fork.fork
        last = len(fork.branches) - 1
        if not last:
            return len(results)
        if not fork.first_only:
            return sum(result.branch_index == last for result in results)
        return sum(
            result.branch_index == last or result.status is not BranchStatus.SKIPPED for result in results
        )

    async def _tick(self) -> None:
        logged = monotonic()
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._sink.tick()
            if monotonic() - logged >= self._progress_seconds:
                logged = monotonic()
                self.progress.offset = self._offsets.last
                # Formatted now: a log record must not change with the progress.
                line = str(self.progress)
                self._log.info("%s", line)


def _waits_of(kept: Any) -> tuple[Wait, ...]:
    return ParkedRun.from_dict(kept).waits
