"""How much one answer may read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Budget"]

_MAX_BYTES: Final = 64 << 20
_MAX_SECONDS: Final = 5.0


class Budget:
    """How much one answer may read: searches stop there, and say where.

    Args:
        max_bytes: bytes.
        max_seconds: time.
        clock: returns seconds; tests pass their own.

    Attributes:
        spent: bytes that were read.
    """

    def __init__(
        self,
        max_bytes: int = _MAX_BYTES,
        max_seconds: float = _MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes = max_bytes
        self.spent = 0
        self._clock = clock
        self._until = clock() + max_seconds

    def spend(self, count: int) -> None:
        """Note that bytes were read."""
        self._bytes -= count
        self.spent += count

    @property
    def is_spent(self) -> bool:
        """Whether no more should be read."""
        return self._bytes <= 0 or self._clock() >= self._until

    def share(self, parts: int) -> Budget:
        """Return a new budget that has an equal part of the bytes that are left, and all of the time."""
        return Budget(
            max(self.bytes_left // parts, 1), max(self._until - self._clock(), 0.0), clock=self._clock
        )

    @property
    def bytes_left(self) -> int:
        """Bytes that can still be read."""
        return max(self._bytes, 0)
