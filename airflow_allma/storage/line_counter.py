"""The line number of a byte in an object."""

from __future__ import annotations

from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = ["LineCounter"]


class LineCounter:
    """Counts lines on demand, from where it last stopped: offsets must increase.

    Args:
        store: holds the object.
        pointer: the object.
        etag: every read of the object is conditional on it; None: unconditional.
        max_bytes: how far into the object to read.
    """

    def __init__(self, store: ObjectStore, pointer: Pointer, etag: str | None, *, max_bytes: int) -> None:
        self._store = store
        self._pointer = pointer
        self._etag = etag
        self._max_bytes = max_bytes
        self._offset = 0
        self._breaks = 0

    def number_at(self, offset: int) -> int | None:
        """Return the number, from 1, of the line that begins at a byte; None after ``max_bytes``.

        Raises:
            StorageError: the object cannot be read, or has changed.
        """
        if offset > self._max_bytes:
            return None
        if offset > self._offset:
            blocks = self._store.stream(self._pointer, self._offset, offset, if_match=self._etag)
            self._breaks += sum(block.count(b"\n") for block in blocks)
            self._offset = offset
        return self._breaks + 1
