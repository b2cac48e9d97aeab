"""Where a chunk's results go: to the offload location as they come, or into one XCom at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from airflow_allma.exceptions import StorageConfigurationError

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult
    from airflow_allma.storage import ObjectStore
    from airflow_allma.storage.keys import OffloadLocation

__all__ = ["ChunkSink", "InlineSink", "StoredSink"]


class ChunkSink(Protocol):
    """Takes results; a context manager around the running of a chunk.

    Items are counted from the chunk's first.
    """

    @property
    def is_empty(self) -> bool:
        """Whether there is no result yet, of this run or an earlier one."""

    def is_done(self, item: int, branch: str) -> bool:
        """Whether an earlier run of the chunk has a good result of this branch run, or has skipped it."""

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Whether an earlier run of the chunk has a good result of this branch run."""

    def add(self, results: Sequence[BranchResult], first: int, offset_of: Callable[[int], int]) -> None:
        """Take results.

        Args:
            results: as the branch runs end.
            first: index of the chunk's first item.
            offset_of: gives where an item of the chunk begins in its manifest, in bytes.
        """

    def tick(self) -> None:
        """Called about once a second while branches run; must not wait.

        Raises:
            StorageError: results could not be kept.
        """

    def delivery(self, items: int) -> dict[str, Any]:
        """What the aggregate is told, once all ``items`` of the chunk have ended.

        Raises:
            StorageError: the results cannot be kept.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InlineSink:
    """Keeps results for the task's own XCom; knows of no earlier run.

    Args:
        max_bytes: bytes of JSON that an XCom may have.
    """

    def __init__(self, max_bytes: int) -> None:
        self._most_bytes = max_bytes
        self._results: list[list[Any]] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is no result yet."""
        return not self._results

    def tick(self) -> None:
        """Nothing is written before the end."""

    def is_done(self, item: int, branch: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """No: Airflow drops a task's XComs when the task runs again."""
        return False

    def has_succeeded(self, item: int, branch: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """No, for the same reason."""
        return False

    def add(
        self,
        results: Sequence[BranchResult],
        first: int,
        offset_of: Callable[[int], int],  # noqa: ARG002 - the protocol's signature
    ) -> None:
        """Take results."""
        self._results.extend([result.item_index - first, result.to_dict()] for result in results)

    def delivery(self, items: int) -> dict[str, Any]:
        """All results.

        Raises:
            StorageConfigurationError: they are too large.
        """
        size = len(msgspec.json.encode(self._results))
        if size > self._most_bytes:
            raise StorageConfigurationError(
                f"The results of this chunk are {size} bytes of JSON, more than [allma] max_inline_bytes "
                f"({self._most_bytes}). Set [allma] offload_location, so that results are written there, or "
                "make chunk_bytes smaller."
            )
        return {"items": items, "results": self._results}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class StoredSink:
    """Writes results in parts while the chunk runs, so that a killed process loses little.

    Args:
        store: where the location lies.
        location: the chunk's own folder.
        part_bytes: a part is written when so many bytes of results wait.
        part_seconds: or when a result has waited so long.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: OffloadLocation,
        part_bytes: int = 1 << 20,
        part_seconds: float = 10.0,
    ) -> None:
        from airflow_allma.distributed.result_writer import ResultWriter

        self._writer = ResultWriter(store, location, flush_bytes=part_bytes, flush_seconds=part_seconds)
        self._part_bytes = part_bytes
        # One thread: parts are written one after the other, and the event loop waits for none of them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="allma-results")
        self._flush: Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no result yet, of this run or an earlier one."""
        return self._writer.is_empty

    def is_done(self, item: int, branch: str) -> bool:
        """Whether its success is known, or that the branch is not for the item."""
        return self._writer.is_done(item, branch)

    def has_succeeded(self, item: int, branch: str) -> bool:
        """Whether its success is known."""
        return self._writer.has_succeeded(item, branch)

    def add(self, results: Sequence[BranchResult], first: int, offset_of: Callable[[int], int]) -> None:
        """Take results, and have a part written when it is time."""
        from airflow_allma.distributed.result_writer import NewResult
        from airflow_allma.engine import BranchStatus

        ok, failed = BranchStatus.OK, BranchStatus.FAILED
        lines = []
        for result in results:
            place = result.item_index - first
            offset = offset_of(place)
            if result.status is ok:
                line = NewResult(place, offset, result.branch_id, "ok", result.output)
            elif result.status is failed:
                line = NewResult(place, offset, result.branch_id, "failed", error=result.error)
            else:
                # Written too: a chunk that runs again must not take it for one that has not run.
                line = NewResult(place, offset, result.branch_id, "skipped")
            lines.append(line)
        if self._writer.add(lines):
            self._flush_soon()

    def tick(self) -> None:
        """Have a part written when something has waited long enough, also when nothing comes after it."""
        if self._writer.is_due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Have a part written; wait for the one that is being written only when a whole one more waits."""
        if self._flush is None or self._flush.done() or self._writer.waiting_bytes >= self._part_bytes:
            self._raise_failure()
            self._flush = self._thread.submit(self._writer.flush)

    def delivery(self, items: int) -> dict[str, Any]:
        """How many items there were: the results are where the aggregate looks for them."""
        self._writer.finish(items)
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
        # What a failed flush could not write still waits: it is written now, or that fails too.
        self._writer.__exit__(kind, error, trace)
