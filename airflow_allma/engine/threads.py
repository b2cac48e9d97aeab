"""Threads for blocking calls of steps, which might never return."""

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

_MAX_CALLS: Final = min(32, (os.cpu_count() or 1) + 4)


class CallThreads:
    """Runs each blocking call in a thread of its own.

    Python cannot stop a thread. A thread whose caller no longer waits keeps running, but does not take a slot
    from other calls, and does not keep an event loop or the process from ending.

    Args:
        max_calls: slots of one event loop.
    """

    def __init__(self, max_calls: int = _MAX_CALLS) -> None:
        self._max_calls = max_calls
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @property
    def slots(self) -> asyncio.Semaphore:
        """The semaphore to hold during a call, which limits concurrent calls.

        The caller acquires it, so that the time limit of a call does not include the wait for a slot.
        """
        loop = asyncio.get_running_loop()
        slots = self._slots.get(loop)
        if slots is None:
            slots = self._slots[loop] = asyncio.Semaphore(self._max_calls)
        return slots

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Return the function's result, or raise its exception."""
        future: Future[_T] = Future()
        # From here on the future itself cannot be cancelled, so the thread can always set its result.
        future.set_running_or_notify_cancel()
        threading.Thread(target=_call, args=(future, function, args), name="allma-call", daemon=True).start()
        return await asyncio.wrap_future(future)


def _call(future: Future[_T], function: Callable[..., _T], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - raised where the call was made
        future.set_exception(error)
    else:
        future.set_result(result)
