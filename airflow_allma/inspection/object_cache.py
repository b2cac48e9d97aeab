"""What was read from stored results, kept for the next page; bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

__all__ = ["ObjectCache"]

_T = TypeVar("_T")

_MAX_BYTES: Final = 64 << 20


class ObjectCache:
    """Values by key; when they are too many bytes, those not used for longest are dropped.

    A key names content that does not change: an object with its ETag, or with the version of the task that
    wrote it. What can change is kept for seconds only.

    Args:
        max_bytes: bytes of all values together, as their readers state them.
        clock: returns seconds; tests pass their own.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int, float | None]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes of all values together."""
        return self._bytes

    def has(self, key: Hashable) -> bool:
        """Return whether the value of a key is there."""
        return key in self._values

    def get(self, key: Hashable, read: Callable[[], tuple[_T, int]], *, seconds: float | None = None) -> _T:
        """Return the value of a key, or read it.

        Two threads that miss the same key at once both read it.

        Args:
            key: names the content.
            read: returns the value and its size in bytes.
            seconds: how long it stays true; None for ever.
        """
        with self._lock:
            found = self._values.get(key)
            if found is not None and (found[2] is None or found[2] > self._clock()):
                self._values.move_to_end(key)
                value: _T = found[0]
                return value
        value, size = read()
        self.put(key, value, size, seconds=seconds)
        return value

    def put(self, key: Hashable, value: Any, size: int, *, seconds: float | None = None) -> None:
        """Keep a value, unless it is larger than a quarter of the cache."""
        if size > self._max_bytes // 4:
            return
        until = None if seconds is None else self._clock() + seconds
        with self._lock:
            before = self._values.pop(key, None)
            self._bytes += size - (before[1] if before else 0)
            self._values[key] = (value, size, until)
            while self._bytes > self._max_bytes:
                _, (_, dropped, _) = self._values.popitem(last=False)
                self._bytes -= dropped
