"""The rate limiters of the models that one process calls; a bounded number, as data can name models."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from airflow_allma.engine.llm.model_request import ModelName
from airflow_allma.engine.llm.pace import Allowance
from airflow_allma.engine.llm.rate_limiter import RateLimiter

__all__ = ["MAX_IDLE", "RateLimiters"]

MAX_IDLE: Final = 1_000
"""Maximum number of limiters that are kept although no call uses them and they hold no call back."""

_EXAMINED: Final = 8
"""How many limiters are examined when there are too many: more than are added, so their number falls."""

_Key = tuple[ModelName, str | None]


class RateLimiters:
    """Makes one limiter for each model and connection, and drops those that were not used for longest.

    A limiter that a call uses, or that holds calls back, is never replaced by a new one, which would know
    nothing of it.

    Args:
        allowance_of: returns the configured limits of a model.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, allowance_of: Callable[[ModelName], Allowance], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowance_of = allowance_of
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: OrderedDict[_Key, RateLimiter] = OrderedDict()
        # Those that a call uses are found here, also after they were dropped.
        self._used: WeakValueDictionary[_Key, RateLimiter] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return the number of limiters that are kept."""
        return len(self._recent)

    def get(self, model: ModelName, connection: str | None) -> RateLimiter:
        """Return the limiter for the calls to a model with the key of one connection."""
        key = model, connection
        with self._lock:
            limiter = self._used.get(key)
            if limiter is None:
                limiter = RateLimiter(self._allowance_of(model), clock=self._clock)
                self._used[key] = limiter
            self._recent[key] = limiter
            self._recent.move_to_end(key)
            self._drop_idle()
            return limiter

    def _drop_idle(self) -> None:
        for _ in range(_EXAMINED):
            if len(self._recent) <= MAX_IDLE:
                return
            key, oldest = next(iter(self._recent.items()))
            if oldest.is_holding:
                self._recent.move_to_end(key)
            else:
                del self._recent[key]
