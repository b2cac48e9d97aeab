"""Branch runs that wait: those of a poll continue in the same process, those of an event are parked."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import msgspec

from airflow_allma.common.json_form import JsonForm
from airflow_allma.engine.program import CompiledBranch
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunState
from airflow_allma.engine.suspension import SuspendReason, Wait, next_due, only_polls

__all__ = ["ParkedRun", "SuspendedRun", "SuspendedRuns"]


class SuspendedRun(msgspec.Struct, gc=False):
    """A branch run that waits, in the process in which it ran.

    Attributes:
        index: the item's index.
        item: the item.
        branch: the branch.
        state: the run's state; running its segment again continues it.
        waits: what it waits for.
    """

    index: int
    item: Any
    branch: CompiledBranch
    state: RunState
    waits: tuple[Wait, ...]

    def park(self) -> ParkedRun:
        """Return what is needed to continue the run in another process."""
        return ParkedRun(self.index, self.branch.index, self.item, self.state.suspended_form(), self.waits)


class ParkedRun(JsonForm, msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A branch run that waits for events, as JSON.

    Attributes:
        item_index: the item's index.
        branch_index: the branch's index in the fork.
        item: the item.
        state: what ``RunState.to_dict`` returned, with a journal.
        waits: what it waits for.
    """

    item_index: int
    branch_index: int
    item: Any
    state: dict[str, Any]
    waits: tuple[Wait, ...]


class SuspendedRuns:
    """The branch runs of a fork that wait, while others run.

    Args:
        services: for the clock and the answers.
        held_keys: correlation keys for which other branch runs of the fork wait.

    Attributes:
        parked: runs that wait for events: no process needs to stay for them.
    """

    def __init__(self, services: Services, held_keys: Iterable[str] = ()) -> None:
        self.parked: list[SuspendedRun] = []
        self._keys = set(held_keys)
        self._services = services
        self._polls: list[tuple[float, int, SuspendedRun]] = []
        self._number: Callable[[], int] = count().__next__

    def add(self, run: SuspendedRun) -> None:
        """Add a run that has just been suspended.

        If it waits for a key for which another branch run waits, it continues at once, with the conflict
        as its answer.
        """
        if only_polls(run.waits):
            heapq.heappush(self._polls, (next_due(run.waits), self._number(), run))
            return
        keys = {wait.key for wait in run.waits if wait.reason is SuspendReason.EVENT}
        if taken := keys & self._keys:
            for key in taken:
                self._services.answers.put(SuspendReason.EVENT, key, {"conflict": True})
            heapq.heappush(self._polls, (0.0, self._number(), run))
            return
        self._keys |= keys
        self.parked.append(run)

    def due(self) -> SuspendedRun | None:
        """Return a run whose poll is due now, if there is one."""
        polls = self._polls
        return heapq.heappop(polls)[2] if polls and polls[0][0] <= self._services.now() else None

    async def next(self) -> SuspendedRun | None:
        """Return the run whose poll is due next when it is due; None if no run polls."""
        if not self._polls:
            return None
        due, _, run = heapq.heappop(self._polls)
        await self._services.sleep(max(0.0, due - self._services.now()))
        return run
