"""Threads for blocking calls of steps, which may never come back."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["CallThreads"]

_T = TypeVar("_T")

_MOST: Final = min(32, (os.cpu_count() or 1) + 4)


class CallThreads:
    """Runs blocking calls, each in a thread of its own.

    Python cannot stop a thread. One whose caller has given up goes on alone: it takes no place from other
    calls, and keeps no event loop and no process from ending.

    Args:
        most: turns at a time on one event loop.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @property
    def slots(self) -> asyncio.Semaphore:
        """What to hold during a call, so that there are not too many; waiting for it is no call yet."""
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = asyncio.Semaphore(self._most)
        return turn

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """The function's result, or its exception."""
        future: Future[_T] = Future()
        # From here on nobody can cancel the future itself: the thread may always set its result.
        future.set_running_or_notify_cancel()
        threading.Thread(target=_call, args=(future, function, args), name="allma-call", daemon=True).start()
        return await asyncio.wrap_future(future)


def _call(future: Future[_T], function: Callable[..., _T], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
        future.set_exception(error)
    else:
        future.set_result(result)
