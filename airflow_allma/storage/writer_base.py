"""What the writers of all stores share: which object it is, and how it came out."""

from __future__ import annotations

from airflow_allma.storage.base import ObjectInfo
from airflow_allma.storage.pointers import Pointer

__all__ = ["WriterBase"]


class WriterBase:
    """The part of ``ObjectWriter`` that does not depend on where an object lies."""

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
