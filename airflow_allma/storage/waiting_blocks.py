"""Blocks that wait until a token that extends over many of them is worth another look."""

from __future__ import annotations

__all__ = ["WaitingBlocks"]


class WaitingBlocks:
    """Joins blocks with what is left of those before them.

    A long token is looked at again when twice as much of it is there, not with every block: otherwise the
    time would grow with the square of its length, and decompressed blocks can be tiny.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def take(self, left: bytes, block: bytes) -> bytes | None:
        """Add a block; return everything, or None if more should be awaited.

        Args:
            left: what is left of the last result.
            block: what follows.
        """
        self._blocks.append(block)
        self._size += len(block)
        return self.rest(left) if self._size >= len(left) else None

    def rest(self, left: bytes) -> bytes:
        """Return everything that there is."""
        data = b"".join([left, *self._blocks])
        self._blocks.clear()
        self._size = 0
        return data
