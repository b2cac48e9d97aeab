"""A circuit breaker for each model: one that keeps failing is skipped for a while if there is another."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["FAILURES", "MAX_CLOSED", "OPEN_SECONDS", "WINDOW_SECONDS", "CircuitBreaker"]

FAILURES: Final = 5
"""Number of failures within ``WINDOW_SECONDS`` that opens the circuit of a model."""

WINDOW_SECONDS: Final = 60.0
OPEN_SECONDS: Final = 300.0
"""How long an open circuit stays open."""

MAX_CLOSED: Final = 1_000
"""Maximum number of models with failures whose circuit is closed: data can name models."""


class CircuitBreaker:
    """Counts the failures of each model in one process. The circuit of a model that keeps failing is open.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Both in the order of the last failure.
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self._open_until: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of models that have failures or an open circuit."""
        return len(self._failures) + len(self._open_until)

    def is_open(self, model: Hashable) -> bool:
        """Return whether the circuit of a model is open: the model is to be skipped."""
        return self.seconds_left(model) > 0

    def seconds_left(self, model: Hashable) -> float:
        """Return how long a model is still skipped, in seconds."""
        return max(0.0, self._open_until.get(model, 0.0) - self._clock())

    def succeeded(self, model: Hashable) -> None:
        """Record a success: it clears the model's failures and closes its circuit."""
        with self._lock:
            self._failures.pop(model, None)
            self._open_until.pop(model, None)

    def failed(self, model: Hashable) -> bool:
        """Record a failure; return whether it opened the circuit."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            failures = self._failures.setdefault(model, deque(maxlen=FAILURES))
            self._failures.move_to_end(model)
            failures.append(now)
            if len(failures) < FAILURES or now - failures[0] > WINDOW_SECONDS:
                return False
            was_open = model in self._open_until
            del self._failures[model]
            self._open_until[model] = now + OPEN_SECONDS
            self._open_until.move_to_end(model)
            return not was_open

    def _forget(self, now: float) -> None:
        """Drop circuits that are closed again, and the oldest failures if there are too many."""
        while self._open_until and next(iter(self._open_until.values())) <= now:
            self._open_until.popitem(last=False)
        while len(self._failures) >= MAX_CLOSED:
            self._failures.popitem(last=False)
