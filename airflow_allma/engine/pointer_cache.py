"""The content of pointers that a process has loaded, bounded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import StorageError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.content import load_sized

__all__ = ["PointerCache", "PointerNotLoaded"]

_MAX_BYTES: Final = 256 * 1024 * 1024

RunInThread = Callable[..., Awaitable[tuple[Any, int]]]


class PointerNotLoaded(BaseException):
    """An expression needs the content of ``pointer`` first."""

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer.uri)
        self.pointer = pointer


class PointerCache:
    """Content by pointer; once the limit is reached, the least recently used is dropped first.

    Args:
        max_bytes: bytes of stored objects to keep; one larger object is kept alone, as it is needed.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._content: OrderedDict[Pointer, tuple[Any, int]] = OrderedDict()
        self._loading: dict[Pointer, asyncio.Task[None]] = {}

    def load(self, inner: Mapping[str, Any]) -> Any:
        """Return the content of the inner pointer ``{"bucket", "key", ...}``.

        Raises:
            PointerNotLoaded: this process has not loaded it yet.
            PermanentStepError: the object is not a pointer.
        """
        try:
            pointer = Pointer.from_inner(inner)
        except StorageError as error:
            raise step_error_from(error) from error
        cached = self._content.get(pointer)
        if cached is None:
            raise PointerNotLoaded(pointer)
        self._content.move_to_end(pointer)
        return cached[0]

    def put(self, pointer: Pointer, content: Any, size: int) -> None:
        """Keep the content of a pointer; ``size`` is in bytes as stored."""
        _, before = self._content.pop(pointer, (None, 0))
        self._content[pointer] = (content, size)
        self._bytes += size - before
        while self._bytes > self._max_bytes and len(self._content) > 1:
            _, (_, dropped) = self._content.popitem(last=False)
            self._bytes -= dropped

    async def fetch(self, pointer: Pointer, store: ObjectStore, in_thread: RunInThread) -> None:
        """Load and keep a pointer's content; concurrent callers share one read.

        Args:
            pointer: the object.
            store: where it is read from.
            in_thread: runs a blocking call without blocking the event loop.

        Raises:
            StorageError: the object is missing, denied or unreadable.
        """
        task = self._loading.get(pointer)
        if task is None:
            task = asyncio.ensure_future(self._fetch(pointer, store, in_thread))
            self._loading[pointer] = task
            task.add_done_callback(lambda _: self._loading.pop(pointer, None))
        # A caller that is cancelled must not cancel the read for other callers.
        await asyncio.shield(task)

    async def _fetch(self, pointer: Pointer, store: ObjectStore, in_thread: RunInThread) -> None:
        content, size = await in_thread(load_sized, store, pointer)
        self.put(pointer, content, size)
