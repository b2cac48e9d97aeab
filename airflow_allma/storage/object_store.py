"""The one protocol of S3, local files and the in-memory store.

All methods block; callers on an event loop run them in threads. A store is safe to share between threads.

Every method raises only this package's storage errors:

- ``ObjectNotFoundError``: the bucket, object or version does not exist;
- ``ObjectAccessDeniedError``: the credentials or the file's mode forbid the access;
- ``ObjectChangedError``: the object's ETag is not ``if_match`` (the message contains both);
- ``StorageUnavailableError``: the store failed, even after retries;
- ``StorageConfigurationError``: credentials are missing, the endpoint is wrong, or this store cannot hold the
  key.

Each message names bucket and key, and the connection or folder in use.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from airflow_allma.storage.pointer import Pointer

__all__ = ["BLOCK_BYTES", "JSON_LINES_TYPE", "JSON_TYPE", "ObjectInfo", "ObjectStore", "ObjectWriter"]

BLOCK_BYTES: Final = 1 << 20
"""Bytes of a streamed block, unless the caller sets another size."""

JSON_TYPE: Final = "application/json"
JSON_LINES_TYPE: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about an object without reading it.

    Attributes:
        pointer: the object; from ``head`` and ``write`` with the ``version_id`` when the bucket keeps
            versions.
        size: bytes, as stored (compressed, if it is).
        etag: changes when the content changes; an opaque string, to be passed as ``if_match``.
        content_type: media type, or None if the object has none.
        content_encoding: ``gzip``, or None.
        last_modified: with time zone, or None if the store does not know it.
        metadata: the user's own metadata; empty in listings and in stores without metadata.
        storage_class: as listings of S3 have it, such as ``STANDARD``; otherwise None.
    """

    pointer: Pointer
    size: int
    etag: str
    content_type: str | None = None
    content_encoding: str | None = None
    last_modified: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None

    @property
    def version_id(self) -> str | None:
        """The version that this describes, when the bucket keeps versions."""
        return self.pointer.version_id


class ObjectWriter(Protocol):
    """Writes one object from start to end; a context manager.

    The object appears, complete, when the ``with`` block ends without an error. When the block raises,
    nothing appears and what was sent is discarded.
    """

    @property
    def pointer(self) -> Pointer:
        """The object being written."""

    @property
    def position(self) -> int:
        """Bytes written so far."""

    @property
    def info(self) -> ObjectInfo:
        """The object as written; ``RuntimeError`` before the ``with`` block has ended without an error."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class ObjectStore(Protocol):
    """Objects in buckets. The module's docstring lists the errors of every method."""

    @property
    def description(self) -> str:
        """The name of this store in errors: the connection or the folder."""

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Look up an object without reading it."""

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Read bytes ``start`` to ``end`` (exclusive; None = to the end).

        If the range extends beyond the object, return the part that exists, perhaps nothing.
        """

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Read the same bytes block by block; blocks are not empty, and can have any size.

        All blocks are of the same content: an object that is replaced meanwhile either continues with its old
        content or raises ``ObjectChangedError``. Errors are raised with the first block, not by the call.
        Close the generator (or exhaust it) to free its resources.
        """

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Write a whole object, replacing an existing one; readers never see half of it."""

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectWriter:
        """Write an object of unknown length."""

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, in the byte order of keys, at most ``limit``.

        Pages are requested on demand.
        """
