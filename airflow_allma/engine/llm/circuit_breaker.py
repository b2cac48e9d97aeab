"""A circuit breaker for each model: one that keeps failing is skipped for a while if there is another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["FAILURES", "OPEN_SECONDS", "WINDOW_SECONDS", "CircuitBreaker"]

FAILURES: Final = 5
"""Number of failures within ``WINDOW_SECONDS`` that opens the circuit of a model."""

WINDOW_SECONDS: Final = 60.0
OPEN_SECONDS: Final = 300.0
"""How long an open circuit stays open."""


class CircuitBreaker:
    """Counts the failures of each model in one process. The circuit of a model that keeps failing is open.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[Hashable, deque[float]] = {}
        self._open_until: dict[Hashable, float] = {}

    def is_open(self, model: Hashable) -> bool:
        """Return whether the circuit of a model is open: the model is to be skipped."""
        until = self._open_until.get(model)
        if until is None:
            return False
        if self._clock() < until:
            return True
        self._open_until.pop(model, None)
        return False

    def seconds_left(self, model: Hashable) -> float:
        """Return how long a model is still skipped, in seconds."""
        return max(0.0, self._open_until.get(model, 0.0) - self._clock())

    def succeeded(self, model: Hashable) -> None:
        """Record a success: it clears the model's failures and closes its circuit."""
        self._failures.pop(model, None)
        self._open_until.pop(model, None)

    def failed(self, model: Hashable) -> bool:
        """Record a failure; return whether it opened the circuit."""
        now = self._clock()
        failures = self._failures.setdefault(model, deque(maxlen=FAILURES))
        failures.append(now)
        if len(failures) < FAILURES or now - failures[0] > WINDOW_SECONDS:
            return False
        was_open = self.is_open(model)
        self._failures.pop(model, None)
        self._open_until[model] = now + OPEN_SECONDS
        return not was_open
