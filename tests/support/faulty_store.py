"""A store that fails on purpose, to test code that uses stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.pointer import Pointer

Hook = Callable[[str, Pointer, int], None]


def fail_when(matches: Callable[[str, Pointer, int], bool]) -> Hook:
    """Return a hook that raises StorageUnavailableError for the calls that match."""

    def hook(operation: str, pointer: Pointer, number: int) -> None:
        if matches(operation, pointer, number):
            raise StorageUnavailableError(f"{pointer}: {operation} number {number} failed on purpose")

    return hook


class FaultyStore:
    """A store that calls ``hook(operation, pointer, number of the call)`` before each call.

    The hook may raise, or change the object without the caller's knowledge. ``block_hook`` is called in the
    same way before each block of a stream: an error there is a response that is cut off.
    """

    def __init__(self, store: ObjectStore, hook: Hook | None = None, block_hook: Hook | None = None) -> None:
        self._store = store
        self._hook = hook
        self._block_hook = block_hook
        self._blocks = 0
        self.calls: list[tuple[str, Pointer]] = []

    @property
    def description(self) -> str:
        return f"faulty {self._store.description}"

    def _before(self, operation: str, pointer: Pointer) -> None:
        self.calls.append((operation, pointer))
        if self._hook is not None:
            self._hook(operation, pointer, len(self.calls) - 1)

    def head(self, pointer: Pointer) -> ObjectInfo:
        self._before("head", pointer)
        return self._store.head(pointer)

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        self._before("read", pointer)
        return self._store.read(pointer, start, end, if_match=if_match)

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Iterator[bytes]:
        self._before("stream", pointer)
        for block in self._store.stream(pointer, start, end, if_match=if_match, block_bytes=block_bytes):
            if self._block_hook is not None:
                self._block_hook("block", pointer, self._blocks)
            self._blocks += 1
            yield block

    def write(self, pointer: Pointer, data: bytes, **options: Any) -> ObjectInfo:
        self._before("write", pointer)
        return self._store.write(pointer, data, **options)

    def open_writer(self, pointer: Pointer, **options: Any) -> ObjectWriter:
        self._before("open_writer", pointer)
        return self._store.open_writer(pointer, **options)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        self._before("list", Pointer(bucket, prefix or "*"))
        return self._store.list(bucket, prefix, limit)


class DyingStore(FaultyStore):
    """A store that accepts some writes, then none, like a killed process; the last response may get lost."""

    def __init__(self, store: ObjectStore, writes: int, *, last_is_kept: bool) -> None:
        super().__init__(store)
        self._left = writes
        self._last_is_kept = last_is_kept

    def write(self, pointer: Pointer, data: bytes, **options: Any) -> ObjectInfo:
        if self._left > 0:
            self._left -= 1
            return super().write(pointer, data, **options)
        if self._left == 0 and self._last_is_kept:
            super().write(pointer, data, **options)
        self._left = -1
        raise StorageUnavailableError(f"{pointer}: killed on purpose")
