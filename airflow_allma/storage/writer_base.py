"""What the writers of all stores have in common: the object, and its state once written."""

from __future__ import annotations

from airflow_allma.storage.object_store import ObjectInfo
from airflow_allma.storage.pointer import Pointer

__all__ = ["WriterBase"]


class WriterBase:
    """The part of ``ObjectWriter`` that does not depend on the store."""

    def __init__(self, pointer: Pointer) -> None:
        self._pointer = pointer
        self._position = 0
        self._info: ObjectInfo | None = None

    @property
    def pointer(self) -> Pointer:
        """The object being written."""
        return self._pointer

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._position

    @property
    def info(self) -> ObjectInfo:
        """The object as written."""
        if self._info is None:
            raise RuntimeError(f"{self._pointer} is not written yet")
        return self._info

    def _not_open(self) -> RuntimeError:
        return RuntimeError(f"{self._pointer} is not open for writing")
