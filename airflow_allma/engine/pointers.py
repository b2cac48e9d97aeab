"""Loading what pointers stand for, without stopping the event loop.

Expressions are plain synchronous walks. When one meets a pointer whose content is not here yet,
``PointerCache.load`` raises ``PointerNotLoaded`` through it; the runner fetches the content in a thread and
evaluates the expression again. Everything up to a handler's side effect can be evaluated twice, so nothing is
done twice; and nothing is loaded that no expression reads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.content import load_sized

if TYPE_CHECKING:
    from airflow_allma.engine.services import Services

__all__ = [
    "MAX_FETCHES",
    "PointerCache",
    "PointerNotLoaded",
    "fetch",
    "require_store",
    "resolving",
    "too_many_pointers",
]

_T = TypeVar("_T")

_MOST_BYTES: Final = 256 * 1024 * 1024
MAX_FETCHES: Final = 1000
"""Pointers that one evaluation may load before it is taken to go round in circles."""


class PointerNotLoaded(BaseException):
    """An expression needs the content of ``pointer`` first."""

    def __init__(self, pointer: Pointer) -> None:
        super().__init__(pointer.uri)
        self.pointer = pointer


class PointerCache:
    """Content by pointer; what was used longest ago goes first once the bound is reached.

    Args:
        max_bytes: bytes of stored objects to keep; one larger object is kept alone, as it is needed.
    """

    def __init__(self, max_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = max_bytes
        self._bytes = 0
        self._content: OrderedDict[Pointer, tuple[Any, int]] = OrderedDict()
        self._coming: dict[Pointer, asyncio.Task[None]] = {}

    def load(self, inner: Mapping[str, Any]) -> Any:
        """The content of the inner pointer ``{"bucket", "key", ...}``.

        Raises:
            PointerNotLoaded: this process does not have it yet.
            PermanentStepError: the object is not a pointer.
        """
        try:
            pointer = Pointer.parse({POINTER_KEY: inner})
        except StorageError as error:
            raise step_error_from(error) from error
        if pointer is None:
            raise PermanentStepError(
                f"An _s3_output_pointer needs a text bucket and a text key; this one has {sorted(inner)}."
            )
        held = self._content.get(pointer)
        if held is None:
            raise PointerNotLoaded(pointer)
        self._content.move_to_end(pointer)
        return held[0]

    def put(self, pointer: Pointer, content: Any, size: int) -> None:
        """Keep the content of a pointer; ``size`` in bytes as stored."""
        _, before = self._content.pop(pointer, (None, 0))
        self._content[pointer] = (content, size)
        self._bytes += size - before
        while self._bytes > self._most_bytes and len(self._content) > 1:
            _, (_, dropped) = self._content.popitem(last=False)
            self._bytes -= dropped

    async def fetch(self, pointer: Pointer, store: ObjectStore, services: Services) -> None:
        """Load and keep a pointer's content; those who ask while it is on its way wait for the same one.

        Raises:
            StorageError: the object is missing, denied or unreadable.
        """
        task = self._coming.get(pointer)
        if task is None:
            task = asyncio.ensure_future(self._fetch(pointer, store, services))
            self._coming[pointer] = task
            task.add_done_callback(lambda _: self._coming.pop(pointer, None))
        # Who gives up waiting does not take it away from the others.
        await asyncio.shield(task)

    async def _fetch(self, pointer: Pointer, store: ObjectStore, services: Services) -> None:
        content, size = await services.in_thread(load_sized, store, pointer)
        self.put(pointer, content, size)


async def fetch(pointer: Pointer, services: Services) -> None:
    """Load a pointer's content into the cache.

    Raises:
        StepError: the object is missing, denied or unreadable, or there is no store to ask.
    """
    store = require_store(services, pointer)
    try:
        await services.pointers.fetch(pointer, store, services)
    except StorageError as error:
        raise step_error_from(error) from error


def require_store(services: Services, pointer: Pointer) -> ObjectStore:
    """The store to read a pointer from.

    Raises:
        PermanentStepError: there is none.
    """
    if services.store is None:
        raise PermanentStepError(
            f"The flow reads {pointer.uri}, but there is no store. Set an AWS connection, or give --store."
        )
    return services.store


async def resolving(services: Services, function: Callable[..., _T], *args: Any) -> _T:
    """Call something that evaluates expressions, loading the pointers that they turn out to need.

    Raises:
        StepError: a pointer cannot be loaded, or there is no end of them.
    """
    for _ in range(MAX_FETCHES):
        try:
            return function(*args)
        except PointerNotLoaded as need:
            await fetch(need.pointer, services)
    raise too_many_pointers()


def too_many_pointers() -> PermanentStepError:
    """What is raised when ``MAX_FETCHES`` were not enough."""
    return PermanentStepError(
        f"One step reads more than {MAX_FETCHES} pointers, or more than this process can hold at a time. "
        "Read less in one step, or run a fork over them."
    )
