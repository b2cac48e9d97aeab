"""S3 and a local folder side by side, told apart by the pointer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.base import BLOCK_BYTES, ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.pointers import FILE_BUCKET, Pointer

__all__ = ["RoutedStore"]


class RoutedStore:
    """An ``ObjectStore`` that hands ``file:///`` pointers to one store and all others to another.

    Args:
        objects: the store of buckets, or None when there is none.
        files: the store of ``file:///`` pointers (a ``LocalStore`` of the one folder that may be reached),
            or None when no local file may be reached.
    """

    def __init__(self, objects: ObjectStore | None, files: ObjectStore | None) -> None:
        self._objects = objects
        self._files = files

    @property
    def description(self) -> str:
        """Both stores."""
        return " or ".join(store.description for store in (self._objects, self._files) if store is not None)

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Ask the pointer's store."""
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
        self, pointer: Pointer, *, content_type: str = "application/octet-stream"
    ) -> ObjectWriter:
        """Write to the pointer's store; objects to append must lie in the same one."""
        return self._store(pointer.bucket).open_writer(pointer, content_type=content_type)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List the bucket's store."""
        return self._store(bucket).list(bucket, prefix, limit)

    def delete(self, pointer: Pointer) -> None:
        """Remove from the pointer's store."""
        self._store(pointer.bucket).delete(pointer)

    def _store(self, bucket: str) -> ObjectStore:
        store = self._files if bucket == FILE_BUCKET else self._objects
        if store is not None:
            return store
        if bucket == FILE_BUCKET:
            raise StorageConfigurationError(
                "A file:/// pointer is used, but no local folder may be reached here. "
                "Set offload_location to the file:/// folder that holds it."
            )
        raise StorageConfigurationError(
            f"Bucket {bucket!r} is used, but there is no store of buckets here. Set aws_conn_id."
        )
