"""Time limits for many short waits at once: what ``asyncio.timeout`` does, for a tenth of its cost.

``asyncio.timeout`` schedules and cancels a timer for each wait, which nearly always ends in time. Here one
timer looks at all waits of an event loop many times a second, so that a limit can be exceeded by one tick.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

__all__ = ["TICK_SECONDS", "Deadlines"]

TICK_SECONDS: Final = 0.02
"""How late a wait can end."""


class _Limit:
    """The time limit of one block; a context manager, entered at once."""

    __slots__ = ("_cancelling", "_deadlines", "_task", "expired", "when")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[Any], when: float) -> None:
        self._deadlines = deadlines
        self._task = task
        self._cancelling = task.cancelling()
        self.when = when
        self.expired = False

    def __enter__(self) -> None:
        self._deadlines.waiting[self] = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.waiting.pop(self, None)
        # As in asyncio: a cancellation from outside at the same time stays one.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the block."""
        self.expired = True
        self._task.cancel()


class Deadlines:
    """The time limits of the blocks that wait on one event loop.

    Args:
        loop: the loop.

    Attributes:
        waiting: the limits of blocks that have not ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_ticking = False
        self.waiting: dict[_Limit, None] = {}

    def limit(self, seconds: float) -> _Limit:
        """Return the context manager of a block, which raises TimeoutError when it takes longer.

        Args:
            seconds: the limit; the block can take one tick longer.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A time limit needs a task.")
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)
        return _Limit(self, task, self._loop.time() + seconds)

    def _tick(self) -> None:
        now = self._loop.time()
        for limit in [limit for limit in self.waiting if limit.when <= now]:
            del self.waiting[limit]
            limit.expire()
        self._is_ticking = bool(self.waiting)
        if self._is_ticking:
            self._loop.call_later(TICK_SECONDS, self._tick)
