"""Threads of our own for requests: slow ones never take those of Airflow's routes, or its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from airflow_allma.exceptions import AllmaError

__all__ = ["BusyError", "SlotLimit", "WorkPool"]

T = TypeVar("T")

_MAX_WAITING: Final = 64


class BusyError(AllmaError):
    """The API server does so much at once that a request is refused; it can be sent again."""


class SlotLimit:
    """Counts what runs at once, and refuses what is too much.

    Args:
        slots: how many run at most.
        message: what a refused request is answered.
    """

    def __init__(self, slots: int, message: str) -> None:
        self._free = threading.BoundedSemaphore(slots)
        self._message = message

    def take(self) -> Callable[[], None]:
        """Take a slot, and return what gives it back.

        Raises:
            BusyError: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError(self._message)
        return self._free.release

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot; raises as ``take``."""
        release = self.take()
        try:
            yield
        finally:
            release()


class WorkPool:
    """A few threads, with a bounded queue and a time limit.

    A thread cannot be stopped: work that takes too long goes on after its request was answered, and keeps its
    thread until then. What it calls needs time limits of its own.

    Args:
        name: the threads' name.
        threads: how many there are.
        seconds: how long a request waits for its work, the queue included.
    """

    def __init__(self, name: str, threads: int, seconds: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._slots = SlotLimit(
            threads + _MAX_WAITING, "Too many requests at once; try again in a few seconds."
        )
        self._seconds = seconds

    async def run(self, work: Callable[[], T], *, seconds: float | None = None) -> T:
        """Run a function in a thread.

        Args:
            work: the function.
            seconds: a shorter time limit than the pool's.

        Raises:
            BusyError: too many wait already, or it took too long.
        """
        release = self._slots.take()
        future = self._executor.submit(work)
        future.add_done_callback(lambda _: release())
        waiting = asyncio.wrap_future(future)
        limit = self._seconds if seconds is None else seconds
        done, _ = await asyncio.wait({waiting}, timeout=limit)
        if done:
            return waiting.result()
        # Only what has not begun can be cancelled.
        waiting.cancel()
        raise BusyError(
            f"This took more than {limit:g} seconds. Try again later, or narrow down what you ask "
            "for; the log of the API server may say more."
        )
