"""Running the items of a chunk: those without a good result, with word of how far it is."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from airflow_allma.engine import BranchResult, BranchStatus, ForkRun, run_items
from airflow_allma.engine.manifest_items import ByteOffsets
from airflow_allma.operators.chunk_failures import FailedRuns
from airflow_allma.operators.chunk_plan import ChunkSpec
from airflow_allma.operators.chunk_sink import ChunkSink

__all__ = ["ChunkRun", "Progress"]

_TICK_SECONDS: Final = 1.0
_TOLD_SECONDS: Final = 5.0
_COLLECTED_AFTER: Final = 50_000
"""Objects between two collections of the youngest; Python's own number is 700."""
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


class Progress:
    """How far a chunk is, and what its log says of that.

    Args:
        chunk: the chunk.
        clock: seconds; tests pass their own.

    Attributes:
        items: items that were read.
        kept: how many of them had good results of an earlier try.
        ended: items that ran to their end.
        failed: how many failed, and the first of them.
        offset: where the last one that was read begins, in bytes.
    """

    def __init__(self, chunk: ChunkSpec, clock: Callable[[], float] = monotonic) -> None:
        self._chunk = chunk
        self._clock = clock
        self._started = clock()
        self.items = 0
        self.kept = 0
        self.ended = 0
        self.failed = FailedRuns()
        self.offset = 0

    def __str__(self) -> str:
        """Such as ``1,200 of 5,000 items done (24 %), 3 failed, 410 items/s, about 9 s left``."""
        seconds = max(self._clock() - self._started, 1e-9)
        done, share = self.kept + self.ended, self._share()
        total = "" if self._chunk.count is None else f" of {self._chunk.count:,}"
        words = [f"{done:,}{total} items done ({share:.0%})"]
        if self.kept:
            words.append(f"{self.kept:,} of them by an earlier try")
        words += [f"{self.failed.items:,} failed", f"{_rounded(self.ended / seconds)} items/s"]
        if 0 < share < 1:
            words.append(f"about {_duration(seconds * (1 - share) / share)} left")
        return ", ".join(words)

    def _share(self) -> float:
        if self._chunk.count is not None:
            return (self.kept + self.ended) / max(self._chunk.count, 1)
        if self._chunk.manifest is None:
            return 0.0
        span = self._chunk.manifest.range
        return min(max(self.offset - span.start, 0) / max(span.end - span.start, 1), 1.0)


def _rounded(rate: float) -> str:
    return f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of references less often: items leave none behind, and looking takes long."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class ChunkRun:
    """One run of a chunk's items through a fork's branches.

    Args:
        run: the fork and what its branches see.
        chunk: the chunk.
        sink: takes the results, and knows those of earlier runs.
        log: gets a line of progress every few seconds.
        tick_seconds: how often the sink may write what has waited.
        told_seconds: how often the log is told.

    Attributes:
        progress: how far it is.
        offsets: where the lines of a manifest begin; they pass by here on their way to ``run``.
    """

    def __init__(
        self,
        run: ForkRun,
        chunk: ChunkSpec,
        sink: ChunkSink,
        log: logging.Logger,
        *,
        tick_seconds: float = _TICK_SECONDS,
        told_seconds: float = _TOLD_SECONDS,
    ) -> None:
        self.progress = Progress(chunk)
        self._run = run
        self._sink = sink
        self._log = log
        self._tick_seconds = tick_seconds
        self._told_seconds = told_seconds
        self._first = chunk.first or 0
        self.offsets = ByteOffsets()
        # Where nothing waits there is nothing that a read could keep waiting, and no need of a thread for it.
        self._blocking = chunk.manifest is not None and not run.fork.is_inline
        self._is_fresh = sink.is_empty

    async def run(self, source: Iterable[Sequence[tuple[int, Any]]], concurrency: int) -> None:
        """Run what has no good result yet.

        Args:
            source: pairs of place in the chunk and item, in batches that are read at once.
            concurrency: most branch runs in flight.

        Raises:
            AllmaError: the items cannot be read, or the results not be kept.
        """
        try:
            async with asyncio.TaskGroup() as group:
                ticker = group.create_task(self._tick())
                left = self._left(source)
                with _rare_collections():
                    await run_items(
                        self._run, left, self._take, concurrency=concurrency, blocking=self._blocking
                    )
                ticker.cancel()
        except BaseExceptionGroup as errors:
            # One of the two has failed, and the other was stopped for that.
            raise errors.exceptions[0] from None

    def _left(self, source: Iterable[Sequence[tuple[int, Any]]]) -> Iterator[Sequence[tuple[int, Any]]]:
        """The batches without what is done, and with indexes instead of places."""
        progress, first = self.progress, self._first
        for batch in source:
            progress.items += len(batch)
            left = batch
            if not self._is_fresh:
                left = [pair for pair in batch if not self._is_done(pair[0])]
                progress.kept += len(batch) - len(left)
            yield [(first + place, item) for place, item in left] if first else left

    def _is_done(self, place: int) -> bool:
        """Whether nothing of an item has to run again."""
        fork, sink = self._run.fork, self._sink
        if fork.first_only and any(sink.has_succeeded(place, branch.branch_id) for branch in fork.branches):
            return True
        return all(sink.is_done(place, branch.branch_id) for branch in fork.branches)

    def _take(self, results: Sequence[BranchResult]) -> None:
        told = self.offsets.told(results, self._first)
        if told is not results:
            for result in told:
                self.progress.failed.add(result.item_index - self._first, result)
        self.progress.ended += self._ended(told)
        self._sink.add(told, self._first, self.offsets.of)

    def _ended(self, results: Sequence[BranchResult]) -> int:
        """How many items have come to their end with these results."""
        fork = self._run.fork
        last = len(fork.branches) - 1
        if not last:
            return len(results)
        if not fork.first_only:
            return sum(result.branch_index == last for result in results)
        return sum(
            result.branch_index == last or result.status is not BranchStatus.SKIPPED for result in results
        )

    async def _tick(self) -> None:
        told = monotonic()
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._sink.tick()
            if monotonic() - told >= self._told_seconds:
                told = monotonic()
                self.progress.offset = self.offsets.last
                # As text: what the log holds must not change with the progress.
                line = str(self.progress)
                self._log.info("%s", line)
