"""Results on their way from the event loop, where branch runs end, to the thread that joins them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus

__all__ = ["AbandonedError", "ReorderBuffer"]

_T = TypeVar("_T")

_AT_ONCE: Final = 256
"""Results handed over in one go: waking a thread for each would cost more than joining it."""
_MOST_WAITING: Final = 65_536
"""Results that wait for a slow store, or for a slow item before them, until no more items are read."""


class AbandonedError(Exception):
    """One side has given up; the error that tells why is the other's to raise."""


class ReorderBuffer:
    """Puts results into item order and hands them to another thread; items are read no faster than that.

    Args:
        fork: whose results they are; items count from 0.
    """

    def __init__(self, fork: CompiledFork) -> None:
        self._branches = len(fork.branches)
        self._first_only = fork.first_only
        self._due = (0, 0)
        self._early: dict[tuple[int, int], BranchResult] = {}
        self._ready: list[BranchResult] = []
        self._closed = False
        self._broken = False
        self._condition = threading.Condition()

    def put(self, results: Iterable[BranchResult]) -> None:
        """Take results, in any order; never waits."""
        with self._condition:
            for result in results:
                place = result.item_index, result.branch_index
                if place != self._due:
                    self._early[place] = result
                    continue
                self._release(result)
                while (following := self._early.pop(self._due, None)) is not None:
                    self._release(following)
            if len(self._ready) >= _AT_ONCE:
                self._condition.notify_all()

    def _release(self, result: BranchResult) -> None:
        self._ready.append(result)
        item, branch = result.item_index, result.branch_index
        ends_item = self._first_only and result.status is not BranchStatus.SKIPPED
        self._due = (item + 1, 0) if ends_item or branch + 1 == self._branches else (item, branch + 1)

    def paced(self, items: Iterable[_T]) -> Iterator[_T]:
        """The items, while those who join keep up; for a thread other than the event loop's.

        Raises:
            AbandonedError: nobody joins any more.
        """
        for item in items:
            # Items that were read before the waiting results are all in flight, so this comes to an end.
            if len(self._ready) + len(self._early) >= _MOST_WAITING:
                with self._condition:
                    self._condition.wait_for(self._keeps_up)
            if self._broken:
                raise AbandonedError
            yield item

    def _keeps_up(self) -> bool:
        return self._closed or self._broken or len(self._ready) + len(self._early) < _MOST_WAITING

    def close(self, *, well: bool) -> None:
        """There will be no more results; ``well`` tells whether these were all."""
        with self._condition:
            self._ready.extend(self._early[place] for place in sorted(self._early))
            self._early.clear()
            self._closed = True
            self._broken = self._broken or not well
            self._condition.notify_all()

    def give_up(self) -> None:
        """Nobody joins any more."""
        with self._condition:
            self._broken = True
            self._condition.notify_all()

    def __iter__(self) -> Iterator[BranchResult]:
        """The results in order, for the thread that joins them.

        Raises:
            AbandonedError: there are more, but they will not come.
        """
        closed = False
        while not closed:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or len(self._ready) >= _AT_ONCE)
                batch, self._ready = self._ready, []
                closed = self._closed
                if closed and self._broken:
                    raise AbandonedError
                self._condition.notify_all()
            yield from batch
