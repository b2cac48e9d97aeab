"""Loading the content of pointers without blocking the event loop.

Expressions are plain synchronous walks. When one reaches a pointer whose content is not loaded yet,
``PointerCache.load`` raises ``PointerNotLoaded`` through it; ``evaluate`` fetches the content in a thread and
evaluates the expression again. Everything before a handler's side effect can be evaluated twice, so no effect
happens twice; and only content that an expression reads is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from airflow_allma.common.work_budget import refill_budget
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.services import Services
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage import ObjectPrefix, ObjectStore, Pointer

__all__ = ["MAX_FETCHES", "evaluate", "fetch", "require_store", "too_many_pointers"]

_T = TypeVar("_T")

MAX_FETCHES: Final = 1000
"""Maximum number of pointers that one evaluation loads; beyond it, a cycle is assumed."""


async def fetch(pointer: Pointer, services: Services) -> None:
    """Load a pointer's content into the cache; what needed it is then evaluated again, from its beginning.

    Raises:
        StepError: the object is missing, denied or unreadable, or no store is configured.
    """
    store = require_store(services, pointer)
    try:
        await services.pointers.fetch(pointer, store, services.in_thread)
    except StorageError as error:
        raise step_error_from(error) from error
    refill_budget()


def require_store(services: Services, pointer: Pointer | ObjectPrefix) -> ObjectStore:
    """Return the store to read a pointer from.

    Raises:
        PermanentStepError: none is configured.
    """
    if services.store is None:
        raise PermanentStepError(
            f"The flow reads {pointer.uri}, but no store is configured. Set an AWS connection, or pass "
            "--store."
        )
    return services.store


async def evaluate(services: Services, function: Callable[..., _T], *args: Any) -> _T:
    """Call a function that evaluates expressions, loading the pointers that they need.

    Raises:
        StepError: a pointer cannot be loaded, or one evaluation needs too many.
    """
    for _ in range(MAX_FETCHES):
        try:
            return function(*args)
        except PointerNotLoaded as missing:
            await fetch(missing.pointer, services)
    raise too_many_pointers()


def too_many_pointers() -> PermanentStepError:
    """Return the error for an evaluation that needs more than ``MAX_FETCHES`` pointers."""
    return PermanentStepError(
        f"One step reads more than {MAX_FETCHES} pointers, or more than this process can hold at once. "
        "Read less in one step, or run a fork over them."
    )
