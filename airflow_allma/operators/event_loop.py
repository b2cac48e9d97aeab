"""Running the engine's coroutines in a task, in a way that a signal handler can stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["InterruptibleLoop"]

_T = TypeVar("_T")


class InterruptibleLoop:
    """Runs coroutines one after the other, each on an event loop of its own.

    Args:
        close: awaited after each run, to release what belongs to its loop.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run a coroutine to its end.

        Raises:
            CancelledError: ``stop`` was called.
        """

        async def whole() -> _T:
            task = asyncio.current_task()
            if task is not None:
                loop = asyncio.get_running_loop()
                self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                if self._stopped:
                    raise asyncio.CancelledError
                return await work()
            finally:
                self._cancel = None
                await self._close()

        return asyncio.run(whole())

    def stop(self) -> None:
        """End ``run``, now or as soon as it begins; for signal handlers."""
        self._stopped = True
        if self._cancel is not None:
            self._cancel()
