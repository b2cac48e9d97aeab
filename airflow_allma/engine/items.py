"""What a fork runs over: the items that ``itemsPath`` finds, and how they are read from where they lie."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.engine.pointers import resolving
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.services import Services
from airflow_allma.exceptions import ExpressionEvaluationError, PermanentStepError, StepError
from airflow_allma.expressions import NOTHING
from airflow_allma.storage import Pointer

__all__ = ["Feed", "ForkItems", "ItemError", "classify_items", "label_of", "resolve_items"]

_LABEL_KEYS: Final = ("id", "name", "key")
_LONGEST_LABEL: Final = 200


@dataclass(frozen=True, slots=True)
class ForkItems:
    """The items of a fork; exactly one of the two is set.

    Attributes:
        values: a list in the context, one branch run (or more) per member.
        pointer: an object that holds the items.
    """

    values: list[Any] | None = None
    pointer: Pointer | None = None


@dataclass(frozen=True, slots=True)
class ItemError:
    """Stands for an item that could not be read; its branch runs fail with ``error``, all others run."""

    error: StepError


async def resolve_items(fork: CompiledFork, context: Mapping[str, Any], services: Services) -> ForkItems:
    """Evaluate ``itemsPath`` and decide the mode.

    Raises:
        PermanentStepError: the path cannot be evaluated, or a pointer on its way leads nowhere.
    """
    if fork.items_path is None:
        return ForkItems(values=[])
    try:
        found = await resolving(services, fork.items_path.find, context, services.pointers.load)
    except ExpressionEvaluationError as error:
        raise PermanentStepError(f"Step {fork.step_id}: itemsPath: {error}") from error
    return classify_items(found)


def classify_items(found: Any) -> ForkItems:
    """The mode follows from what was found: a list, a pointer, one other value, or nothing."""
    if found is NOTHING or found is None:
        return ForkItems(values=[])
    if isinstance(found, list):
        return ForkItems(values=found)
    pointer = Pointer.parse(found)
    if pointer is not None:
        return ForkItems(pointer=pointer)
    return ForkItems(values=[found])


def label_of(fork: CompiledFork, item: Any, index: int) -> str:
    """What names an item to people: what ``itemLabelPath`` finds, its id, name or key, else its index."""
    if fork.label_path is not None:
        try:
            found = fork.label_path.find(item)
        except ExpressionEvaluationError:
            found = NOTHING
        if _can_be_label(found):
            return str(found)[:_LONGEST_LABEL]
    if isinstance(item, dict):
        for key in _LABEL_KEYS:
            named = item.get(key)
            if _can_be_label(named):
                return str(named)[:_LONGEST_LABEL]
    return str(index)


def _can_be_label(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


class Feed:
    """Hands entries to many coroutines, each entry once, reading ahead no more than a batch.

    Args:
        batches: the entries, as they are read together; None is none of them.
        services: its threads do the reading when ``blocking``.
        blocking: whether taking from ``batches`` may wait for a disk or a network.
    """

    def __init__(
        self, batches: Iterable[Sequence[Any]], services: Services, *, blocking: bool = False
    ) -> None:
        self._iterator: Iterator[Sequence[Any]] = iter(batches)
        self._services = services
        self._blocking = blocking
        self._ready: deque[Any] = deque()
        self._ended = False
        self._lock = asyncio.Lock()

    async def next(self) -> Any:
        """The next entry, or None when there are no more."""
        while not self._ready:
            async with self._lock:
                if not self._ready and not self._ended:
                    batch = await self.batch()
                    self._ended = batch is None
                    self._ready.extend(batch or ())
            if self._ended and not self._ready:
                return None
        return self._ready.popleft()

    async def batch(self) -> Sequence[Any] | None:
        """The next batch as it was read, or None when there are no more. For one caller alone."""
        if self._blocking:
            return await self._services.in_thread(next, self._iterator, None)
        return next(self._iterator, None)
