"""Calling a function for many values, several at a time, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

__all__ = ["ordered_calls"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_THREADS: Final = 16


def ordered_calls(
    function: Callable[[_T], _R], values: Iterable[_T], is_quick: Callable[[_T], bool]
) -> Generator[_R, None, None]:
    """Yield ``function(value)`` for each value, in order, while threads work on the next few.

    Args:
        function: may be called in several threads.
        values: any number.
        is_quick: whether a call does not block, so that a thread is not worth it.
    """
    pool: ThreadPoolExecutor | None = None
    waiting: deque[Future[_R]] = deque()
    try:
        for value in values:
            if not waiting and is_quick(value):
                yield function(value)
                continue
            pool = pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="allma-files")
            waiting.append(pool.submit(function, value))
            while len(waiting) >= 2 * _THREADS or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
