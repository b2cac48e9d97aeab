"""Where a chunk's results go: to the offload location as they come, or into one XCom at the end.

The branch runs that wait when the chunk's task parks are kept beside the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

from airflow_allma.distributed.inline_sink import InlineSink
from airflow_allma.distributed.item_labels import ItemLabels
from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.parked_runs import ParkedRuns, ParkedRunsFolder
from airflow_allma.distributed.result_format import read_chunk_summary
from airflow_allma.distributed.result_index import ItemTrace
from airflow_allma.distributed.result_reader import read_results
from airflow_allma.distributed.result_writer import NewResult, ResultWriter
from airflow_allma.engine import BranchResult, BranchStatus, CompiledFork, Services
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import ObjectStore, OffloadLocation

__all__ = ["InlineSink", "ResultSink", "StoredSink", "open_sink"]


class ResultSink(Protocol):
    """Receives the results of a chunk; a context manager around running it.

    Items are counted from the chunk's first.

    Attributes:
        parked: the branch runs of the chunk that wait.
    """

    parked: ParkedRuns

    @property
    def is_empty(self) -> bool:
        """Whether no result exists yet, of this try or an earlier one."""

    def is_done(self, item: int, branch: str) -> bool:
        """Return whether an earlier try of the chunk has a success of this branch run, or skipped it."""

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Return whether an earlier try of the chunk has a success of this branch run."""

    def failures(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield item, branch and error of the branch runs that have failed in earlier tries."""

    def earlier_offset(self, item: int) -> int | None:
        """Return where an earlier try of the chunk has read an item that it has done; None if not known."""

    def generation(self, item: int, branch: str) -> int:
        """Return the generation of the result of this branch run; 0 if it has none."""

    def last_generation(self) -> int:
        """Return the generation of the last selection that has run to its end; 0 if none has.

        Raises:
            StorageError: the chunk's summary cannot be read.
        """

    def select(self, selection: ItemSelection) -> None:
        """Let the results that follow for selected items count instead of all earlier ones."""

    def add(self, results: Sequence[BranchResult], first: int, offset_of: Callable[[int], int]) -> None:
        """Add results.

        Args:
            results: as the branch runs end.
            first: index of the chunk's first item.
            offset_of: returns where an item of the chunk begins in its manifest, in bytes.

        Raises:
            ObjectDecodeError: a result cannot be written as JSON.
            StorageError: results could not be stored.
        """

    @property
    def keeps_traces(self) -> bool:
        """Whether ``add_trace`` does something."""

    def add_trace(self, trace: ItemTrace) -> None:
        """Add the trace of a branch run, before its result. Does not raise and does not wait."""

    def skip_trace(self) -> None:
        """Count a failed branch run that has no trace, since there are too many."""

    def note_items(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Note the items of the chunk as they are read, all of them and in order.

        Args:
            batch: pairs of an index in the chunk and an item.
        """

    def tick(self) -> None:
        """Do what is due, without waiting; called about once a second while branches run.

        Raises:
            StorageError: results could not be stored.
        """

    def park(self) -> dict[str, Any]:
        """Keep the branch runs that wait, after the context manager's end.

        Returns:
            What the task itself has to keep, for ``open_sink``.

        Raises:
            StorageError: they cannot be stored.
        """

    def finish(self, items: int) -> dict[str, Any]:
        """Return what the chunk's task passes to the aggregate, once all ``items`` of the chunk have ended.

        Raises:
            StorageError: the results cannot be stored.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class StoredSink:
    """Writes results in parts while the chunk runs, so that a killed process loses few of them.

    Args:
        store: the store of the location.
        location: the chunk's own folder.
        part_bytes: a part is written when this many bytes of results wait.
        part_seconds: or when a result has waited this long.
        fork: the fork: it names its items, and its branch runs can wait for events; None if that does not
            matter.
        masks: the secrets that the process knows, which are masked in names of items.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: OffloadLocation,
        part_bytes: int = 1 << 20,
        part_seconds: float = 10.0,
        *,
        fork: CompiledFork | None = None,
        masks: SecretMasks | None = None,
    ) -> None:
        self._store, self._location = store, location
        suspends = fork is not None and fork.suspends
        self._labels = None if fork is None else ItemLabels(store, location, fork, masks or SecretMasks())
        self._parked_runs = ParkedRunsFolder(store, location) if suspends else None
        self.parked = self._parked_runs.load() if self._parked_runs else ParkedRuns()
        self._writer = ResultWriter(store, location, flush_bytes=part_bytes, flush_seconds=part_seconds)
        self._part_bytes = part_bytes
        # One thread: parts are written one after the other, and the event loop waits for none of them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="allma-results")
        self._flush: Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no result exists yet, of this try or an earlier one."""
        return self._writer.is_empty

    def is_done(self, item: int, branch: str) -> bool:
        """Return whether a success of this branch run is stored, or that the branch skips the item."""
        return self._writer.is_done(item, branch)

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Return whether a success of this branch run is stored."""
        return self._writer.has_succeeded(item, branch)

    def failures(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield item, branch and error of the branch runs whose stored result is a failure."""
        if self._writer.failed:
            for line in read_results(self._store, self._location):
                if line.status is BranchStatus.FAILED:
                    yield line.item, line.branch, line.value()

    def earlier_offset(self, item: int) -> int | None:
        """Return where an earlier try of the chunk has read an item that it has done; None if it has not."""
        return self._writer.earlier_offset(item)

    def generation(self, item: int, branch: str) -> int:
        """Return the generation of the stored result of this branch run; 0 if it has none."""
        return self._writer.generation(item, branch)

    def last_generation(self) -> int:
        """Return the generation in the chunk's summary."""
        summary = read_chunk_summary(self._store, self._location)
        return summary.generation if summary is not None else 0

    def select(self, selection: ItemSelection) -> None:
        """Let the results that follow for selected items count instead of all stored ones."""
        self._writer.select(selection)

    def add(self, results: Sequence[BranchResult], first: int, offset_of: Callable[[int], int]) -> None:
        """Add results, and start writing a part when it is due."""
        ok, failed = BranchStatus.OK, BranchStatus.FAILED
        lines = []
        for result in results:
            item = result.item_index - first
            offset = offset_of(item)
            if result.status is ok:
                line = NewResult(item, offset, result.branch_id, ok, output=result.output)
            elif result.status is failed:
                line = NewResult(item, offset, result.branch_id, failed, error=result.error)
            else:
                # Written too: a chunk that runs again must not take it for one that has not run.
                line = NewResult(item, offset, result.branch_id, result.status)
            if result.items != 1:
                line.items = result.items
            lines.append(line)
        if self._writer.add(lines):
            self._start_flush()

    @property
    def keeps_traces(self) -> bool:
        """Return True: traces are stored beside the results."""
        return True

    def add_trace(self, trace: ItemTrace) -> None:
        """Add a trace, and start writing a part when it is due and none is being written."""
        if self._writer.add_trace(trace) and self._flush is None:
            self._flush = self._thread.submit(self._writer.flush)

    def skip_trace(self) -> None:
        """Count a failed branch run without a trace, for the index."""
        self._writer.skip_trace()

    def note_items(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Note the labels of items as they are read."""
        if self._labels is not None:
            self._labels.add(batch)

    def tick(self) -> None:
        """Start writing a part when a result has waited long enough, even if no other follows."""
        if self._writer.is_due:
            self._start_flush()

    def _start_flush(self) -> None:
        """Write a part in the thread; wait for the one being written only when a whole further part waits."""
        if self._flush is None or self._flush.done() or self._writer.waiting_bytes >= self._part_bytes:
            self._raise_failure()
            # The flush that was waited for can have taken what was due: a part of what is left would be tiny.
            if self._writer.is_due:
                self._flush = self._thread.submit(self._writer.flush)

    def park(self) -> dict[str, Any]:
        """Write the branch runs that wait; the task itself has nothing to keep."""
        if self._parked_runs is not None:
            self._parked_runs.save(self.parked)
        if self._labels is not None:
            self._labels.save()
        return {}

    def finish(self, items: int) -> dict[str, Any]:
        """Write what waits and return the number of items: the aggregate finds the results by itself."""
        # After a clear, items that failed begin anew, whatever they waited for.
        self.park()
        self._writer.finish(items, self._labels)
        return {"items": items}

    def _raise_failure(self) -> None:
        if self._flush is not None:
            self._flush.result()
            self._flush = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        # What a failed flush could not write still waits: it is written now, or that raises too.
        self._writer.__exit__(kind, error, trace)


def open_sink(
    folder: OffloadLocation | None,
    services: Services,
    settings: AllmaSettings,
    *,
    fork: CompiledFork,
    kept: Mapping[str, Any] | None = None,
) -> ResultSink:
    """Return the sink for a chunk: its folder below the offload location, or memory if there is none.

    Args:
        folder: the chunk's folder.
        services: the store.
        settings: the size of parts and XComs.
        fork: the fork.
        kept: what ``ResultSink.park`` returned, for a task that was woken.

    Raises:
        StorageError: the results of earlier tries cannot be read.
    """
    if folder is None or services.store is None:
        return InlineSink(settings.max_inline_bytes, kept)
    return StoredSink(
        services.store, folder, settings.result_part_bytes, fork=fork, masks=services.secrets.masks
    )
