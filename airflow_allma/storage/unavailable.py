# ruff: noqa: ARG002 - nothing is looked at before the access is refused
"""A store that cannot be reached: for answers that have to do without one."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo, ObjectWriter
from airflow_allma.storage.pointer import Pointer

__all__ = ["UnavailableStore"]


class UnavailableStore:
    """Refuses every access at once, with ``StorageUnavailableError``.

    Args:
        reason: the message of the error.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def description(self) -> str:
        """The name of this store in errors."""
        return "an unavailable store"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Refuse to look up an object."""
        raise self._error()

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Refuse to read an object."""
        raise self._error()

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Refuse to read an object."""
        raise self._error()

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Refuse to write an object."""
        raise self._error()

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectWriter:
        """Refuse to write an object."""
        raise self._error()

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """Refuse to list objects."""
        raise self._error()

    def _error(self) -> StorageUnavailableError:
        return StorageUnavailableError(self._reason)
