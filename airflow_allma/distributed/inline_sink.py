"""Results of a chunk without an offload location: one XCom at the end has them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from airflow_allma.distributed.item_selection import ItemSelection
from airflow_allma.distributed.parked_runs import ParkedRuns
from airflow_allma.distributed.result_index import ItemTrace
from airflow_allma.engine import BranchResult
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage.content import encode_value

__all__ = ["InlineSink"]


class InlineSink:
    """Keeps results for the task's own XCom; has none of an earlier try.

    Args:
        max_bytes: maximum size of an XCom, in bytes of JSON.
        kept: what ``park`` returned before the task was woken.
    """

    def __init__(self, max_bytes: int, kept: Mapping[str, Any] | None = None) -> None:
        self._max_bytes = max_bytes
        self._results: list[list[Any]] = []
        self._bytes = 1
        self.parked = ParkedRuns()
        if kept:
            self._results = list(kept["results"])
            self._bytes = len(encode_value(self._results))
            self.parked = ParkedRuns.from_list(kept["parked"])

    @property
    def is_empty(self) -> bool:
        """Whether no result exists yet."""
        return not self._results

    @property
    def keeps_traces(self) -> bool:
        """Return False: traces would make the XCom too large."""
        return False

    def add_trace(self, trace: ItemTrace) -> None:
        """Do nothing, for the same reason."""

    def skip_trace(self) -> None:
        """Do nothing, for the same reason."""

    def note_items(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Do nothing: an XCom has no labels."""

    def tick(self) -> None:
        """Do nothing: results are written at the end."""

    def is_done(self, item: int, branch: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return False: Airflow deletes a task's XComs when the task runs again."""
        return False

    def has_succeeded(self, item: int, branch: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return False, for the same reason."""
        return False

    def failures(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield nothing, for the same reason."""
        yield from ()

    def earlier_offset(self, item: int) -> int | None:  # noqa: ARG002 - the protocol's signature
        """Return None: results of earlier tries are not kept."""
        return None

    def generation(self, item: int, branch: str) -> int:  # noqa: ARG002 - the protocol's signature
        """Return 0, for the same reason."""
        return 0

    def last_generation(self) -> int:
        """Return 0, for the same reason."""
        return 0

    def select(self, selection: ItemSelection) -> None:
        """Do nothing: without results of an earlier try all items run."""

    def add(
        self,
        results: Sequence[BranchResult],
        first: int,
        offset_of: Callable[[int], int],  # noqa: ARG002 - the protocol's signature
    ) -> None:
        """Add results."""
        try:
            added = [[result.item_index - first, result.to_dict()] for result in results]
        except RecursionError as error:
            raise ObjectDecodeError(
                "The value cannot be written as JSON: it is nested too deeply."
            ) from error
        size = len(encode_value(added)) - 1
        self._results.extend(added)
        self._bytes += size

    def park(self) -> dict[str, Any]:
        """Return the branch runs that wait, and all results.

        Raises:
            StorageConfigurationError: they are too large.
        """
        kept = self.parked.to_list()
        self._require_size(self._bytes + len(encode_value(kept)), "The results and waiting items")
        return {"results": self._results, "parked": kept}

    def finish(self, items: int) -> dict[str, Any]:
        """Return all results.

        Raises:
            StorageConfigurationError: they are too large.
        """
        self._require_size(self._bytes, "The results")
        return {"items": items, "results": self._results}

    def _require_size(self, size: int, what: str) -> None:
        if size > self._max_bytes:
            raise StorageConfigurationError(
                f"{what} of this chunk are {size} bytes of JSON, more than [allma] max_inline_bytes "
                f"({self._max_bytes}). Set [allma] offload_location, so that they are written there, or "
                "make chunk_bytes smaller."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
