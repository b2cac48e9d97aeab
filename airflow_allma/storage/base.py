"""The one protocol behind which S3, local files and the in-memory store look the same.

All methods block; callers on an event loop run them in threads. A store is safe to share between threads.

Every method raises only this package's storage errors:

- ``ObjectNotFoundError``: no such bucket, object or version;
- ``ObjectAccessDeniedError``: the credentials or the file's mode forbid it;
- ``ObjectChangedError``: ``if_match`` was given and the object has another ETag (both are in the message);
- ``StorageUnavailableError``: the store did not answer well, after the store's own retries;
- ``StorageConfigurationError``: no credentials, a wrong endpoint, a key that this store cannot hold.

Each message names bucket and key, and the connection or folder in use.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from airflow_allma.storage.pointers import Pointer

__all__ = ["BLOCK_BYTES", "JSON_LINES_TYPE", "JSON_TYPE", "ObjectInfo", "ObjectStore", "ObjectWriter"]

BLOCK_BYTES: Final = 1 << 20
"""Bytes of a streamed block, unless the caller asks for another size."""

JSON_TYPE: Final = "application/json"
JSON_LINES_TYPE: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about an object without reading it.

    Attributes:
        pointer: the object; from ``head`` and ``write`` with the ``version_id`` when the bucket keeps
            versions.
        size: bytes, as stored (compressed, if it is).
        etag: changes when the content changes; an opaque text, given back as ``if_match``.
        content_type: media type, or None when nobody said one.
        content_encoding: ``gzip``, or None.
        last_modified: with time zone, or None when the store does not know.
        metadata: the user's own metadata; empty in listings and where the store keeps none.
    """

    pointer: Pointer
    size: int
    etag: str
    content_type: str | None = None
    content_encoding: str | None = None
    last_modified: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def version_id(self) -> str | None:
        """The version that this describes, when the bucket keeps versions."""
        return self.pointer.version_id


class ObjectWriter(Protocol):
    """Writes one object from front to back; a context manager.

    The object appears, whole, when the ``with`` block ends well. When the block raises, nothing appears and
    what was sent is thrown away.
    """

    @property
    def pointer(self) -> Pointer:
        """The object being written."""

    @property
    def position(self) -> int:
        """Bytes written so far."""

    @property
    def info(self) -> ObjectInfo:
        """The object as written. Only after the ``with`` block has ended well; before, ``RuntimeError``."""

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
    """Objects in buckets. See the module's text for the errors of every method."""

    @property
    def description(self) -> str:
        """What names this store in errors: the connection or the folder."""

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Look an object up without reading it."""

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Read bytes ``start`` to ``end`` (exclusive; None = to the end).

        A range that reaches beyond the object gives what is there, perhaps nothing.
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
        """Read the same bytes block by block; blocks are not empty, and all but the last may be of any size.

        All blocks come from one and the same content: an object that is replaced meanwhile either goes on
        with its old content or raises ``ObjectChangedError``. Errors come with the first block, not with
        the call. Close the iterator (or exhaust it) to free what it holds.
        """

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Put a whole object, replacing what is there; nobody ever sees half of it."""

    def open_writer(
        self, pointer: Pointer, *, content_type: str = "application/octet-stream"
    ) -> ObjectWriter:
        """Write an object of unknown length."""

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """The objects whose key starts with ``prefix``, ordered by key (as UTF-8 bytes), at most ``limit``.

        Looks pages up as they are needed. Raises ``ObjectNotFoundError`` when there is no such bucket.
        """

    def delete(self, pointer: Pointer) -> None:
        """Remove an object; one that is not there is removed already."""
