"""The limits of the models: a token bucket, or a window that begins at fixed times."""

from __future__ import annotations

import time
from collections.abc import Callable

from demo.model_servers.behaviour import Limit
from demo.model_servers.exchange import Limits, LimitState

__all__ = ["RateLimiter"]


class RateLimiter:
    """Admits as many requests and tokens as a limit allows."""

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = _Counter(limit.requests, limit, clock()) if limit.requests else None
        self._tokens = _Counter(limit.tokens, limit, clock()) if limit.tokens else None

    def admit(self, tokens: int) -> tuple[bool, Limits]:
        """Return whether a request with some tokens is served, and what is left then.

        A request that is refused uses up nothing.
        """
        now = self._clock()
        wanted = [(self._requests, 1), (self._tokens, tokens)]
        counters = [(counter, amount) for counter, amount in wanted if counter is not None]
        wait = max((counter.wait(amount, now) for counter, amount in counters), default=0.0)
        if wait == 0:
            for counter, amount in counters:
                counter.take(amount)
        return wait == 0, Limits(
            self._requests.state(now) if self._requests else None,
            self._tokens.state(now) if self._tokens else None,
            wait,
        )


class _Counter:
    def __init__(self, amount: int, limit: Limit, now: float) -> None:
        self._limit = amount
        self._seconds = limit.seconds
        self._is_window = limit.window
        self._left = float(amount)
        self._at = now

    def wait(self, amount: int, now: float) -> float:
        """Return seconds until an amount is available; 0 if it is."""
        self._refill(now)
        # A request of more than a whole period is served when the limit is full; it would never be otherwise.
        missing = min(amount, self._limit) - self._left
        if missing <= 1e-9:
            return 0.0
        return self._reset_seconds(now) if self._is_window else missing * self._seconds / self._limit

    def take(self, amount: int) -> None:
        self._left = max(0.0, self._left - amount)

    def state(self, now: float) -> LimitState:
        return LimitState(self._limit, int(self._left), self._reset_seconds(now))

    def _refill(self, now: float) -> None:
        elapsed = now - self._at
        if not self._is_window:
            self._left = min(self._limit, self._left + elapsed * self._limit / self._seconds)
            self._at = now
        elif elapsed >= self._seconds:
            self._at += elapsed // self._seconds * self._seconds
            self._left = float(self._limit)

    def _reset_seconds(self, now: float) -> float:
        if self._is_window:
            return max(0.0, self._at + self._seconds - now)
        return (self._limit - self._left) * self._seconds / self._limit
