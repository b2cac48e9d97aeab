"""``COLLECT_ARRAY`` results: a list, or a JSON Lines object once they are too large for the context.

The object is written line by line: it holds bare outputs, while a line of a chunk's results also holds the
item and its status. Therefore no part of a chunk's results has the same bytes and nothing can be copied
inside the store. An output is passed on as it was encoded, without decoding it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage import ObjectStore, ObjectWriter, Pointer
from airflow_allma.storage.content import encode_value
from airflow_allma.storage.object_store import JSON_LINES_TYPE

__all__ = ["SpillingList"]

_WRITE_BYTES: Final = 256 << 10


class SpillingList:
    """Collects members in order; once it writes an object it holds none of them.

    Args:
        store: where a large list is written.
        target: the object to write; None without an offload location.
        max_bytes: bytes of JSON up to which it stays a list; None for no limit.
        max_inline_bytes: maximum bytes of JSON of the list without a target; None for no limit.
    """

    def __init__(
        self,
        store: ObjectStore | None,
        target: Pointer | None,
        max_bytes: int | None,
        max_inline_bytes: int | None,
    ) -> None:
        self._store = store
        self._target = target if store is not None else None
        self._max_bytes = max_bytes if self._target is not None else max_inline_bytes
        self._members: list[Any] = []
        self._bytes = 0
        self._writer: ObjectWriter | None = None
        self._lines: list[bytes] = []
        self._waiting = 0

    def add(self, member: Any) -> None:
        """Add the next member: a JSON value, or an encoded one (``msgspec.Raw``, one line).

        Raises:
            StorageConfigurationError: the list is too large, and no offload location is configured.
            StorageError: it is not a JSON value, or the store refused.
        """
        if self._max_bytes is None:
            self._members.append(member)
            return
        encoded = bytes(member) if member.__class__ is msgspec.Raw else encode_value(member)
        if self._writer is not None:
            # As ``_write``, whose call would take as long as this.
            self._lines.append(encoded)
            self._waiting += len(encoded)
            if self._waiting >= _WRITE_BYTES:
                self._flush()
            return
        self._members.append(member)
        self._bytes += len(encoded) + 1
        if self._bytes > self._max_bytes:
            self._spill()

    def _spill(self) -> None:
        if self._store is None or self._target is None:
            raise StorageConfigurationError(
                f"The results of the fork are more than {self._max_bytes} bytes of JSON ([allma] "
                "max_inline_bytes). Set [allma] offload_location, and no disableS3Offload in the fork, so "
                "that they become an object."
            )
        self._writer = self._store.open_writer(self._target, content_type=JSON_LINES_TYPE)
        self._writer.__enter__()
        members, self._members = self._members, []
        for member in members:
            self._write(encode_value(member))

    def _write(self, encoded: bytes) -> None:
        self._lines.append(encoded)
        self._waiting += len(encoded)
        if self._waiting >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._writer is not None and self._lines:
            self._lines.append(b"")
            self._writer.write(b"\n".join(self._lines))
            self._lines, self._waiting = [], 0

    def finish(self) -> Any:
        """Return the list, or the pointer that replaces it.

        Raises:
            StorageError: the store refused.
        """
        if self._writer is None:
            return [_decoded(member) for member in self._members]
        self._flush()
        self._writer.__exit__(None, None, None)
        return self._writer.info.pointer.wrap()

    def abandon(self, error: BaseException) -> None:
        """Discard the collected members; no object is created."""
        if self._writer is not None:
            self._writer.__exit__(type(error), error, error.__traceback__)


def _decoded(member: Any) -> Any:
    return msgspec.json.decode(member) if member.__class__ is msgspec.Raw else member
