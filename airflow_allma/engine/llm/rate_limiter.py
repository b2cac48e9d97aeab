"""A queue for the calls to one model in one process, which holds them back to avoid 429 responses."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from airflow_allma.engine.llm.model_request import ModelResponse, RateLimitedError
from airflow_allma.engine.llm.pace import Allowance, Pace

__all__ = ["RateLimiter"]

_LONGEST_SLEEP: Final = 1.0
"""Seconds after which a waiting call looks again: a response, also one on another event loop, can change when
it may be sent.
"""

_SECONDS_BETWEEN_WARNINGS: Final = 60.0


@dataclass(slots=True)
class _Queue:
    """The calls of one event loop that wait: the first one for the event, the others for the lock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class RateLimiter:
    """Holds calls back until their model's ``Pace`` allows them, first come, first served.

    Several event loops can share it.

    Args:
        allowance: the configured limits.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, allowance: Allowance, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(allowance, clock)
        self._clock = clock
        self._warn_again_at = float("-inf")
        self._lock = threading.Lock()
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    @property
    def is_holding(self) -> bool:
        """Whether a call would have to wait now."""
        with self._lock:
            return self._pace.seconds_until_free(1) > 0

    async def wait(self, tokens: int) -> float:
        """Wait until a call can be sent, and count it.

        The caller must then report its end: with ``accepted``, ``rate_limited`` or ``failed``.

        Args:
            tokens: an estimate of its tokens.

        Returns:
            The time at which the call is sent, for ``rate_limited``.
        """
        queue = self._queue()
        async with queue.lock:
            while True:
                with self._lock:
                    seconds = self._pace.seconds_until_free(tokens)
                    if not seconds:
                        return self._pace.sent(tokens)
                queue.changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(queue.changed.wait(), min(seconds, _LONGEST_SLEEP))

    def accepted(self, response: ModelResponse, estimated: int) -> None:
        """Report an answer; ``estimated`` are the tokens that were passed to ``wait``."""
        usage = response.usage
        with self._lock:
            self._pace.accepted(response.limits, estimated, usage.input_tokens + usage.output_tokens)
        self._queue().changed.set()

    def rate_limited(self, error: RateLimitedError, sent_at: float) -> None:
        """Report a 429 response; ``sent_at`` is what ``wait`` returned."""
        with self._lock:
            self._pace.rate_limited(sent_at, error.retry_after, error.limits)
        self._queue().changed.set()

    def may_warn(self) -> bool:
        """Return whether no warning was logged within the last minute; True counts as one."""
        with self._lock:
            now = self._clock()
            if now < self._warn_again_at:
                return False
            self._warn_again_at = now + _SECONDS_BETWEEN_WARNINGS
            return True

    def failed(self) -> None:
        """Report a call that failed in another way."""
        with self._lock:
            self._pace.ended()
        self._queue().changed.set()

    def _queue(self) -> _Queue:
        loop = asyncio.get_running_loop()
        with self._lock:
            queue = self._queues.get(loop)
            if queue is None:
                queue = self._queues[loop] = _Queue()
            return queue
