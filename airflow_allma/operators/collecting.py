"""``COLLECT_ARRAY`` results: a list, or a JSON Lines object once they are too large for the context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_allma.exceptions import StorageConfigurationError

if TYPE_CHECKING:
    from airflow_allma.storage import ObjectStore, ObjectWriter, Pointer

__all__ = ["Collected"]


class Collected:
    """Takes members in order; never holds more than ``most_bytes`` of JSON.

    Args:
        store: where a large result is written.
        target: the object to write; None when there is no offload location.
        most_bytes: bytes of JSON that stay a list.
        most_inline_bytes: bytes of JSON that may stay a list when there is no target.
    """

    def __init__(
        self, store: ObjectStore | None, target: Pointer | None, most_bytes: int, most_inline_bytes: int
    ) -> None:
        self._store = store
        self._target = target if store is not None else None
        self._most_bytes = most_bytes if self._target is not None else most_inline_bytes
        self._members: list[Any] = []
        self._bytes = 0
        self._writer: ObjectWriter | None = None

    def add(self, member: Any) -> None:
        """Take the next member.

        Raises:
            StorageConfigurationError: it does not fit, and there is no offload location.
            StorageError: the store refused.
        """
        encoded = msgspec.json.encode(member)
        self._bytes += len(encoded) + 1
        if self._writer is not None:
            self._writer.write(encoded + b"\n")
            return
        self._members.append(member)
        if self._bytes > self._most_bytes:
            self._begin_to_write()

    def _begin_to_write(self) -> None:
        if self._store is None or self._target is None:
            raise StorageConfigurationError(
                f"The results of the fork are more than {self._most_bytes} bytes of JSON ([allma] "
                "max_inline_bytes). Set [allma] offload_location, and no disableS3Offload in the fork, so "
                "that they become an object."
            )
        self._writer = self._store.open_writer(self._target, content_type="application/x-ndjson")
        self._writer.__enter__()
        for earlier in self._members:
            self._writer.write(msgspec.json.encode(earlier) + b"\n")
        self._members = []

    def finish(self) -> Any:
        """The list, or the pointer that stands for it."""
        if self._writer is None:
            return self._members
        self._writer.__exit__(None, None, None)
        return self._writer.info.pointer.wrap()

    def abandon(self, error: BaseException) -> None:
        """Write nothing after all."""
        if self._writer is not None:
            self._writer.__exit__(type(error), error, error.__traceback__)
