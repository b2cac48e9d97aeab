"""Writing one object from an event loop: each blocking call runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from airflow_allma.engine.threads import CallThreads
from airflow_allma.storage import ObjectInfo, ObjectWriter

__all__ = ["Upload"]

_MAX_ABORT_SECONDS: Final = 10.0


class Upload:
    """Writes one object; an asynchronous context manager.

    The object appears, complete, when the block ends without an error. When the block raises or is cancelled,
    nothing appears and what was sent is removed.

    Args:
        writer: what writes the object.
        threads: runs the blocking calls.
    """

    def __init__(self, writer: ObjectWriter, threads: CallThreads) -> None:
        self._writer = writer
        self._threads = threads
        self._lock = threading.Lock()

    @property
    def info(self) -> ObjectInfo:
        """The object as written, after the block has ended without an error."""
        return self._writer.info

    async def write(self, data: bytes) -> None:
        """Append bytes."""
        await self._run(self._writer.write, data)

    async def __aenter__(self) -> Self:
        await self._run(self._writer.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = asyncio.ensure_future(self._run(self._writer.__exit__, kind, error, trace))
        if error is None:
            await end
        else:
            # A write that was abandoned can still be running: the thread waits for it, the step not for ever.
            await asyncio.wait({end}, timeout=_MAX_ABORT_SECONDS)
            if end.done() and (failure := end.exception()) is not None:
                error.add_note(f"What was uploaded could not be removed: {failure}")

    async def _run(self, function: Callable[..., object], *args: Any) -> None:
        await self._threads.run(self._locked, function, args)

    def _locked(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        with self._lock:
            function(*args)
