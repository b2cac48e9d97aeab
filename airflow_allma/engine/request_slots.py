"""A limit of requests in flight that costs nothing while it is not reached."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["RequestSlots"]


class RequestSlots:
    """The slots of one event loop: ``asyncio.Semaphore``, without a coroutine for a slot that is free.

    Whoever waits gets a slot in the order of asking. What is called often writes ``held`` out:
    ``if not slots.take(): await slots.wait()``, and ``slots.release()`` at the end.

    Args:
        limit: how many there are.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if one is free; return whether it was."""
        # While somebody waits, no slot is free: it is handed over.
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for a slot."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # It got a slot at the same time.
                self.release()
            raise

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold a slot for a block, waiting for it."""
        if not self.take():
            await self.wait()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give a slot back, to the first who still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
