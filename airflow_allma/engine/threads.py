"""Threads for blocking calls of steps, which might never return."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

__all__ = ["CallThreads"]

_T = TypeVar("_T")

_MAX_CALLS: Final = 64
_IDLE_SECONDS: Final = 10.0
"""A thread without calls ends after this time."""


class CallThreads:
    """Runs blocking calls in threads that are used again.

    Python cannot stop a thread. A thread whose caller no longer waits keeps running, but does not take a slot
    from other calls, and does not keep an event loop or the process from ending. Safe to share between event
    loops.

    Args:
        max_calls: slots of one event loop: as many calls as can be in flight at once.
    """

    def __init__(self, max_calls: int = _MAX_CALLS) -> None:
        self._max_calls = max_calls
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._idle: deque[_Worker] = deque()

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
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        try:
            # The last one that became idle: the others end if there is less to do.
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._idle)
        worker.calls.put(_Call(loop, future, function, args))
        return cast("_T", await future)


@dataclass(frozen=True, slots=True)
class _Call:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]


class _Worker:
    """A thread that makes one call after the other; between two of them it is one of the idle ones."""

    def __init__(self, idle: deque[_Worker]) -> None:
        self.calls: SimpleQueue[_Call] = SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._work, name="allma-call", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self.calls.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    # Somebody took it a moment ago, and its call is on the way.
                    continue
                return
            result, error = None, None
            try:
                result = call.function(*call.args)
            except BaseException as raised:  # noqa: BLE001 - raised where the call was made
                error = raised
            self._idle.append(self)
            # A closed event loop raises this: nobody waits any more.
            with suppress(RuntimeError):
                call.loop.call_soon_threadsafe(_finish, call.future, result, error)
            # An idle thread must not keep what the last call was about.
            del call, result, error


def _finish(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        # Cancelled: its caller no longer waits.
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        # A future cannot raise it, as it would end the coroutine that waits.
        future.set_exception(RuntimeError(f"StopIteration: {error}"))
    else:
        future.set_exception(error)
