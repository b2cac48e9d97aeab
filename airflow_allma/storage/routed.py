"""S3 and a local folder in one store; the pointer decides between them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.pointer import FILE_BUCKET, Pointer

__all__ = ["RoutedStore"]


class RoutedStore:
    """An ``ObjectStore`` that uses one store for ``file:///`` pointers and another for all others.

    Args:
        objects: the store of buckets.
        files: the store of ``file:///`` pointers (a ``LocalStore`` of the one folder that flows can use),
            or None if local files cannot be used.
    """

    def __init__(self, objects: ObjectStore, files: ObjectStore | None) -> None:
        self._objects = objects
        self._files = files

    @property
    def description(self) -> str:
        """Both stores."""
        if self._files is None:
            return self._objects.description
        return f"{self._objects.description} or {self._files.description}"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Look the object up in the pointer's store."""
        return self._store(pointer.bucket).head(pointer)

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Read from the pointer's store."""
        return self._store(pointer.bucket).read(pointer, start, end, if_match=if_match)

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Stream from the pointer's store."""
        store = self._store(pointer.bucket)
        return store.stream(pointer, start, end, if_match=if_match, block_bytes=block_bytes)

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Write to the pointer's store."""
        return self._store(pointer.bucket).write(pointer, data, content_type=content_type, metadata=metadata)

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectWriter:
        """Write to the pointer's store."""
        store = self._store(pointer.bucket)
        return store.open_writer(pointer, content_type=content_type, metadata=metadata)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List the bucket's store."""
        return self._store(bucket).list(bucket, prefix, limit)

    def _store(self, bucket: str) -> ObjectStore:
        if bucket != FILE_BUCKET:
            return self._objects
        if self._files is None:
            raise StorageConfigurationError(
                "A file:/// pointer is used, but no local folder is configured. "
                "Set offload_location to the file:/// folder that contains the file."
            )
        return self._files
