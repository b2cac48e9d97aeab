"""Results on their way from the event loop, where branch runs end, to the thread that joins them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus

__all__ = ["AbortedError", "ReorderBuffer"]

_T = TypeVar("_T")

_BATCH_SIZE: Final = 256
"""Results handed over at once: waking a thread for each would cost more than joining it."""
_MAX_WAITING: Final = 65_536
"""Results that can wait for a slow store, or for a slow item before them, before reading items pauses."""


class AbortedError(Exception):
    """The other side has stopped; it raises the error with the reason."""


class ReorderBuffer:
    """Puts results into item order and passes them to another thread, which sets the pace of reading items.

    Args:
        fork: the fork whose results they are; items count from 0.
    """

    def __init__(self, fork: CompiledFork) -> None:
        self._branches = len(fork.branches)
        self._first_only = fork.first_only
        self._next = (0, 0)
        self._early: dict[tuple[int, int], BranchResult] = {}
        self._ready: list[BranchResult] = []
        self._closed = False
        self._aborted = False
        self._condition = threading.Condition()

    def submit(self, results: Iterable[BranchResult]) -> None:
        """Add results, in any order; never waits."""
        with self._condition:
            for result in results:
                key = result.item_index, result.branch_index
                if key != self._next:
                    self._early[key] = result
                    continue
                self._release(result)
                while (following := self._early.pop(self._next, None)) is not None:
                    self._release(following)
            if len(self._ready) >= _BATCH_SIZE:
                self._condition.notify_all()

    def _release(self, result: BranchResult) -> None:
        self._ready.append(result)
        item, branch = result.item_index, result.branch_index
        ends_item = self._first_only and result.status is not BranchStatus.SKIPPED
        self._next = (item + 1, 0) if ends_item or branch + 1 == self._branches else (item, branch + 1)

    def throttle(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield the items while the consumer keeps up; for a thread other than the event loop's.

        Raises:
            AbortedError: the consumer has stopped.
        """
        for item in items:
            # Items that were read before the waiting results are all in flight, so this wait ends.
            if len(self._ready) + len(self._early) >= _MAX_WAITING:
                with self._condition:
                    self._condition.wait_for(self._has_room)
            if self._aborted:
                raise AbortedError
            yield item

    def _has_room(self) -> bool:
        return self._closed or self._aborted or len(self._ready) + len(self._early) < _MAX_WAITING

    def close(self, *, complete: bool) -> None:
        """End the results; ``complete`` is whether all of them were submitted."""
        with self._condition:
            self._ready.extend(self._early[key] for key in sorted(self._early))
            self._early.clear()
            self._closed = True
            self._aborted = self._aborted or not complete
            self._condition.notify_all()

    def abort(self) -> None:
        """Stop the producer: the consumer has stopped."""
        with self._condition:
            self._aborted = True
            self._condition.notify_all()

    def __iter__(self) -> Iterator[BranchResult]:
        """Yield the results in order, for the consumer's thread.

        Raises:
            AbortedError: the producer stopped before all results were submitted.
        """
        closed = False
        while not closed:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or len(self._ready) >= _BATCH_SIZE)
                batch, self._ready = self._ready, []
                closed = self._closed
                if closed and self._aborted:
                    raise AbortedError
                self._condition.notify_all()
            yield from batch
