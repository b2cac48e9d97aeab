"""Objects in this process's memory: the fake for tests of everything above the storage layer."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from airflow_allma.exceptions import ObjectChangedError, ObjectNotFoundError
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo
from airflow_allma.storage.pointer import Pointer, check_writable
from airflow_allma.storage.writer_base import WriterBase

__all__ = ["MemoryStore"]


class MemoryStore:
    """An ``ObjectStore`` that keeps types and metadata, but no versions.

    A bucket appears with its first object.
    """

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], tuple[bytes, ObjectInfo]] = {}
        self._lock = threading.Lock()

    @property
    def description(self) -> str:
        """``memory``."""
        return "memory"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Look an object up."""
        return self._find(pointer, None)[1]

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Read a range."""
        return self._find(pointer, if_match)[0][start:end]

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Read a range block by block."""
        data = self._find(pointer, if_match)[0]
        stop = len(data) if end is None else min(end, len(data))
        for at in range(start, stop, block_bytes):
            yield data[at : min(at + block_bytes, stop)]

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Put an object."""
        check_writable(pointer)
        info = ObjectInfo(
            pointer=pointer,
            size=len(data),
            etag=f'"{hashlib.sha256(data).hexdigest()[:32]}"',
            content_type=content_type,
            last_modified=datetime.now(UTC),
            metadata=dict(metadata or {}),
        )
        with self._lock:
            self._objects[pointer.bucket, pointer.key] = (bytes(data), info)
        return info

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> MemoryWriter:
        """Write block by block."""
        check_writable(pointer)
        return MemoryWriter(self, pointer, content_type, metadata)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List a bucket."""
        with self._lock:
            infos = [info for (name, _), (_, info) in self._objects.items() if name == bucket]
        if not infos:
            raise ObjectNotFoundError(f"Bucket {bucket!r} does not exist in {self.description}.")
        infos = [info for info in infos if info.pointer.key.startswith(prefix)]
        infos.sort(key=lambda info: info.pointer.key.encode())
        return iter(infos[:limit])

    def _find(self, pointer: Pointer, if_match: str | None) -> tuple[bytes, ObjectInfo]:
        with self._lock:
            stored = self._objects.get((pointer.bucket, pointer.key))
        if stored is None or pointer.version_id is not None:
            raise ObjectNotFoundError(f"{pointer} does not exist in {self.description}.")
        if if_match is not None and stored[1].etag != if_match:
            raise ObjectChangedError(
                f"{pointer} has changed: its ETag is {stored[1].etag}, {if_match} was planned."
            )
        return stored


class MemoryWriter(WriterBase):
    """Collects the bytes and puts them at the end."""

    def __init__(
        self, store: MemoryStore, pointer: Pointer, content_type: str, metadata: Mapping[str, str] | None
    ) -> None:
        super().__init__(pointer)
        self._store = store
        self._content_type = content_type
        self._metadata = metadata
        self._buffer: bytearray | None = None

    def write(self, data: bytes) -> None:
        """Append bytes."""
        if self._buffer is None:
            raise self._not_open()
        self._buffer += data
        self._position += len(data)

    def __enter__(self) -> Self:
        self._buffer = bytearray()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data, self._buffer = self._buffer, None
        if kind is None and data is not None:
            self._info = self._store.write(
                self._pointer, bytes(data), content_type=self._content_type, metadata=self._metadata
            )
