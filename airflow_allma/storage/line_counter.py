"""Which line of an object a byte lies in."""

from __future__ import annotations

from airflow_allma.storage.base import ObjectStore
from airflow_allma.storage.pointers import Pointer

__all__ = ["LineCounter"]


class LineCounter:
    """Counts lines only when asked, and on from where it counted last: ask for growing offsets.

    Args:
        store: where the object lies.
        pointer: the object.
        etag: what every read of it is conditional on; None: nothing.
        max_bytes: how far into the object it reads.
    """

    def __init__(self, store: ObjectStore, pointer: Pointer, etag: str | None, *, max_bytes: int) -> None:
        self._store = store
        self._pointer = pointer
        self._etag = etag
        self._most_bytes = max_bytes
        self._offset = 0
        self._breaks = 0

    def number_at(self, offset: int) -> int | None:
        """The number, from 1, of the line that begins at a byte; None when that lies too far to count.

        Raises:
            StorageError: the object cannot be read, or is another one by now.
        """
        if offset > self._most_bytes:
            return None
        if offset > self._offset:
            blocks = self._store.stream(self._pointer, self._offset, offset, if_match=self._etag)
            self._breaks += sum(block.count(b"\n") for block in blocks)
            self._offset = offset
        return self._breaks + 1
