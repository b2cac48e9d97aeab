"""What a run waits for when it cannot go on: the one mechanism behind events, polling and runs of their own.

A handler raises ``SuspendStep``; the step runner keeps what it needs to call the handler again in the run's
state, which is JSON, and the segment ends with ``SegmentStatus.SUSPENDED``. Running the segment again with
that state calls the same handler again. A wake-up is only a hint: a handler that is called too early suspends
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from airflow_allma.common.json_form import JsonForm
from airflow_allma.expressions import NOTHING

__all__ = [
    "Answers",
    "SuspendReason",
    "SuspendStep",
    "SuspendedStep",
    "Wait",
    "is_over",
    "next_due",
    "only_polls",
    "waits_from",
]


class SuspendReason(StrEnum):
    """What kind of thing a run waits for."""

    EVENT = "EVENT"
    """A message from outside that names the wait's key."""
    POLL = "POLL"
    """The time of the next call of an API."""
    RUN = "RUN"
    """The end of another run."""


class Wait(JsonForm, msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One thing that a suspended run waits for.

    Attributes:
        reason: what kind of thing.
        key: identifies it among all waits of this reason: the correlation key, the poll, the run's id.
        until: when the wait ends by itself, in seconds since the epoch: the deadline of an event, the time of
            the next call of a poll; 0 for a run.
        since: when the wait began, in seconds since the epoch.
        step_id: the step that waits.
        branch_id: its branch, inside one.
        item_index: the item's index, inside a branch.
        details: what the process that drives the run needs besides; JSON without secrets.
    """

    reason: SuspendReason
    key: str
    until: float
    since: float
    step_id: str
    branch_id: str | None = None
    item_index: int | None = None
    details: dict[str, Any] = {}


class SuspendedStep(JsonForm, msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    """A step that waits, as part of the run's state.

    Attributes:
        step_id: the step.
        saved: what its handler gets back when it is called again; JSON.
        step_input: the step's input as it was built; None if it was not.
        tries: how often its handler was called before the attempt that waits.
        transient: transient errors before that attempt.
        content: content errors before it.
        own: retries of ``onError.retries`` before it.
        began: when the step began, in seconds since the epoch; 0 if that is not known.
    """

    step_id: str
    saved: Any = None
    step_input: dict[str, Any] | None = None
    tries: int = 0
    transient: int = 0
    content: int = 0
    own: int = 0
    began: float = 0.0


class SuspendStep(BaseException):
    """The step cannot go on now. Not an ``Exception``, so that no error handling takes it for a failure.

    Attributes:
        waits: what it waits for: exactly one poll or run, or one or more events.
        saved: what its handler gets back; JSON.
    """

    def __init__(self, waits: Iterable[Wait], saved: Any = None) -> None:
        super().__init__()
        self.waits = tuple(waits)
        self.saved = saved


class Answers:
    """What has arrived for the waits of the runs in this process.

    Args:
        lookup: finds an answer that was not ``put``, by reason and key, or returns NOTHING; it can block.
    """

    def __init__(self, lookup: Callable[[SuspendReason, str], Any] | None = None) -> None:
        self._arrived: dict[tuple[SuspendReason, str], Any] = {}
        self._announced: set[tuple[SuspendReason, str]] = set()
        self._lookup = lookup
        self.taken: list[tuple[SuspendReason, str]] = []
        """The answers that were taken, in order."""

    @property
    def blocks(self) -> bool:
        """Whether ``take`` can block."""
        return self._lookup is not None

    def put(self, reason: SuspendReason, key: str, answer: Any) -> None:
        """Add an answer, a JSON value."""
        self._arrived[reason, key] = answer

    def announce(self, reason: SuspendReason, key: str) -> None:
        """Say that the lookup will probably find an answer."""
        self._announced.add((reason, key))

    def has(self, reason: SuspendReason, key: str) -> bool:
        """Return whether an answer was ``put`` or announced, and not asked for yet."""
        return (reason, key) in self._arrived or (reason, key) in self._announced

    def take(self, reason: SuspendReason, key: str) -> Any:
        """Return and remove the answer to a wait; NOTHING if there is none."""
        self._announced.discard((reason, key))
        answer = self._arrived.pop((reason, key), NOTHING)
        if answer is NOTHING and self._lookup is not None:
            answer = self._lookup(reason, key)
        if answer is not NOTHING:
            self.taken.append((reason, key))
        return answer


def only_polls(waits: Iterable[Wait]) -> bool:
    """Return whether a process can wait by sleeping: nothing but the time of the next call is missing."""
    return all(wait.reason is SuspendReason.POLL for wait in waits)


def next_due(waits: Iterable[Wait]) -> float:
    """Return when the first of the waits ends by itself, in seconds since the epoch; infinity if never."""
    return min((wait.until for wait in waits if wait.until), default=float("inf"))


def is_over(waits: Iterable[Wait], answers: Answers, now: float) -> bool:
    """Return whether a run should be called again: one of its waits has an answer, or its time is over."""
    return any(answers.has(wait.reason, wait.key) or 0 < wait.until <= now for wait in waits)


def waits_from(saved: Iterable[Mapping[str, Any]]) -> tuple[Wait, ...]:
    """Restore waits that were saved as JSON objects."""
    return tuple(Wait.from_dict(wait) for wait in saved)
