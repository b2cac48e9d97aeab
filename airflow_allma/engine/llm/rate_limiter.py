"""One queue for the calls of one model in one process, which leave it at the model's pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from airflow_allma.engine.llm.model_request import ModelResponse, RateLimitedError
from airflow_allma.engine.llm.pace import Allowance, Pace

__all__ = ["RateLimiter"]

_LONGEST_SLEEP: Final = 1.0
"""A refusal or a response can change when the next call may be sent."""


class RateLimiter:
    """Lets calls pass at the pace of their model, first come, first served.

    Args:
        allowance: the configured limits.
        clock: seconds that only grow; tests pass in a fake.
    """

    def __init__(self, allowance: Allowance, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(allowance, clock)
        self._queue: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None

    async def wait(self, tokens: int) -> float:
        """Wait until a call can be sent, and count it; the caller reports its end in any case.

        Args:
            tokens: an estimate of its tokens.

        Returns:
            What ``refused`` needs.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._queue, self._changed = loop, asyncio.Lock(), asyncio.Event()
        assert self._queue is not None and self._changed is not None  # noqa: PT018, S101 - set above
        async with self._queue:
            while seconds := self._pace.seconds_until_free(tokens):
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(seconds, _LONGEST_SLEEP))
            return self._pace.sent(tokens)

    def accepted(self, response: ModelResponse, estimated: int) -> None:
        """Report an answer; ``estimated`` are the tokens that were passed to ``wait``."""
        usage = response.usage
        self._pace.accepted(response.limits, estimated, usage.input_tokens + usage.output_tokens)
        self._wake()

    def refused(self, error: RateLimitedError, sent_at: float) -> None:
        """Report a refusal; ``sent_at`` is what ``wait`` returned."""
        self._pace.refused(sent_at, error.retry_after, error.limits)
        self._wake()

    def failed(self) -> None:
        """Report a call that ended without an answer."""
        self._pace.ended()
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
