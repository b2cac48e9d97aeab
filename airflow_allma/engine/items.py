"""The items of a fork: what ``itemsPath`` finds, and how they reach the branch runs."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_allma.common.json_types import type_name
from airflow_allma.common.printable import printable
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.item_batches import batches_of, label_of_batch
from airflow_allma.engine.item_error import ItemError
from airflow_allma.engine.pointer_cache import PointerCache, PointerNotLoaded
from airflow_allma.engine.pointer_loading import evaluate
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.services import Services
from airflow_allma.exceptions import (
    ExpressionEvaluationError,
    PermanentStepError,
    StorageConfigurationError,
    StorageError,
)
from airflow_allma.expressions import NOTHING
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ObjectPrefix, Pointer

__all__ = [
    "ForkItems",
    "ItemError",
    "ItemFeed",
    "classify_items",
    "find_items",
    "label_of",
    "list_in_context",
    "own_label",
    "resolve_items",
]

_LABEL_KEYS: Final = ("id", "name", "key")
_URI_PREFIXES: Final = ("s3://", "file://")
_LIKE_POINTER: Final = re.compile(r"_*(bucket(_?name)?|s3_?output_?pointer)", re.IGNORECASE)
_NOTHING: Final = "No branch runs, because itemsPath finds nothing; check the path, and the payload's names"
_NULL: Final = "No branch runs, because itemsPath finds null; check the path, and the payload's names"
_NO_POINTER: Final = (
    "The branches run once, for one value that looks like a pointer to items and is none; a pointer is "
    '{"bucket": ..., "key": ...} without other fields, or that object in {"_s3_output_pointer": ...}'
)
_PREFIX: Final = (
    "The branches run once, for one value that names a prefix; to run them for each object below it, set the "
    'fork\'s itemReader to {"format": "OBJECTS"}'
)
_NEEDS_PREFIX: Final = (
    'itemReader.format is OBJECTS, which needs a prefix; write {"bucket": ..., "prefix": ...} without other '
    "fields (the prefix is empty for a whole bucket), or remove the format for one object with items"
)
_MAX_LABEL_LENGTH: Final = 200
"""In characters. Airflow's ``task_instance.rendered_map_index`` has 250."""


@dataclass(frozen=True, slots=True)
class ForkItems:
    """The items of a fork; exactly one of ``values`` and ``pointer`` is set.

    Attributes:
        values: a list in the context, one branch run (or more) per member.
        pointer: an object that holds the items, or the prefix of objects that are the items.
        doubt: why these are probably not the items that were meant; empty if they probably are.
        limits: the fork's numbers in this run; None if they have not been evaluated.
    """

    values: list[Any] | None = None
    pointer: Pointer | ObjectPrefix | None = None
    doubt: str = ""
    limits: ForkLimits | None = None

    def limited(self, limits: ForkLimits) -> ForkItems:
        """Return the items with the fork's numbers: a list is cut to ``maxItems``, and put into batches."""
        values, most = self.values, limits.max_items
        if values is not None and most is not None and len(values) > most:
            values = values[:most]
        if values is not None and limits.has_batches:
            values = list(batches_of(values, limits))
        return replace(self, values=values, limits=limits)


async def resolve_items(fork: CompiledFork, context: Mapping[str, Any], services: Services) -> ForkItems:
    """Evaluate ``itemsPath``, and the fork's numbers that are JSONPaths.

    Raises:
        PermanentStepError: a path cannot be evaluated, a pointer on its way cannot be followed, or what it
            finds is a pointer with a part that is missing or not allowed, or no number where one is needed.
    """
    found = await find_items(fork, context, services)
    if found.doubt and fork.items_path is not None:
        path, step_id = printable(fork.items_path.source), printable(fork.step_id)
        services.log.warning("%s (itemsPath %s of step %s)", found.doubt, path, step_id)
    limits = await evaluate(services, fork.limits.evaluate, context, services.pointers.load)
    return found.limited(limits)


async def find_items(fork: CompiledFork, context: Mapping[str, Any], services: Services) -> ForkItems:
    """Return what ``itemsPath`` finds, without the fork's numbers: all of a list.

    Raises:
        PermanentStepError: as ``resolve_items``.
    """
    if fork.items_path is None:
        return ForkItems(values=[])
    try:
        items = await evaluate(services, fork.items_path.find, context, services.pointers.load)
        return classify_items(items, fork.model.item_reader)
    except (ExpressionEvaluationError, StorageError) as error:
        raise PermanentStepError(f"Step {fork.step_id}: itemsPath: {error}") from error


def list_in_context(fork: CompiledFork, context: Mapping[str, Any]) -> list[Any] | None:
    """Return a fork's items if its paths find them without loading an object, else None.

    Args:
        fork: a fork whose paths have been evaluated before, on the same context.
        context: the run's data.
    """
    if fork.items_path is None:
        return []
    load = PointerCache().load
    try:
        found = classify_items(fork.items_path.find(context, load), fork.model.item_reader)
        return found.values and found.limited(fork.limits.evaluate(context, load)).values
    except PointerNotLoaded:
        return None


def classify_items(matched: Any, reader: ItemReader | None = None) -> ForkItems:
    """Return the items for what ``itemsPath`` matched: a list, a pointer, one other value, or nothing.

    Args:
        matched: what ``itemsPath`` found.
        reader: the fork's ``itemReader``.

    Raises:
        StorageConfigurationError: it is a pointer or a prefix, but a part of it is missing or not allowed; or
            it is one object, and ``reader`` lists the objects below a prefix.
    """
    if matched is NOTHING or matched is None:
        return ForkItems(values=[], doubt=_NULL if matched is None else _NOTHING)
    if isinstance(matched, list):
        return ForkItems(values=matched)
    if reader is not None and reader.format is ItemFormat.OBJECTS:
        return ForkItems(pointer=_prefix(matched))
    pointer = Pointer.parse(matched)
    if pointer is not None:
        return ForkItems(pointer=pointer)
    if _is_like_prefix(matched):
        return ForkItems(values=[matched], doubt=_PREFIX)
    return ForkItems(values=[matched], doubt=_NO_POINTER if _is_like_pointer(matched) else "")


def _prefix(matched: Any) -> ObjectPrefix:
    prefix = ObjectPrefix.parse(matched)
    if prefix is None:
        found = type_name(matched)
        if isinstance(matched, dict):
            found = f"an object with the fields {', '.join(sorted(matched))[:200]}"
        raise StorageConfigurationError(f"{_NEEDS_PREFIX}. It finds {found}.")
    return prefix


def _is_like_prefix(matched: Any) -> bool:
    try:
        return ObjectPrefix.parse(matched) is not None
    except StorageConfigurationError:
        return False


def _is_like_pointer(matched: Any) -> bool:
    if isinstance(matched, str):
        return matched.startswith(_URI_PREFIXES)
    return isinstance(matched, dict) and any(_LIKE_POINTER.fullmatch(str(name)) for name in matched)


def label_of(fork: CompiledFork, item: Any, index: int) -> str:
    """Return the name of an item in the UI: by ``itemLabelPath``, or its id, name or key, or its index.

    It is printable and not too long, whatever the item contains.
    """
    label = own_label(fork, item)
    return str(index) if label is None else label


def own_label(fork: CompiledFork, item: Any) -> str | None:
    """Return the name that an item itself contains; None if it contains none."""
    if fork.batcher is not None:
        return label_of_batch(item) if isinstance(item, dict) and "first" in item else None
    if fork.label_path is not None and item.__class__ is not ItemError:
        try:
            label = fork.label_path.find(item)
        except ExpressionEvaluationError:
            label = NOTHING
        if _can_be_label(label):
            return _label(label)
    if isinstance(item, dict):
        for key in _LABEL_KEYS:
            value = item.get(key)
            if _can_be_label(value):
                return _label(value)
    return None


def _label(value: Any) -> str:
    if value.__class__ is str and len(value) <= _MAX_LABEL_LENGTH and value.isprintable():
        return value
    # Escapes are longer than what they replace.
    return printable(str(value)[:_MAX_LABEL_LENGTH])[:_MAX_LABEL_LENGTH]


def _can_be_label(value: Any) -> bool:
    # A tuple of types is compared faster than their union.
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""


class ItemFeed:
    """Hands entries to many coroutines, each entry once, reading at most one batch ahead.

    Args:
        batches: the entries, in batches that are read together; no entry is None.
        services: its threads do the reading when ``blocking``.
        blocking: whether reading from ``batches`` can wait for a disk or a network.
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

    def next_ready(self) -> Any:
        """Return the next entry if it has been read already; otherwise None."""
        return self._ready.popleft() if self._ready else None

    async def next(self) -> Any:
        """Return the next entry, or None at the end."""
        while not self._ready:
            async with self._lock:
                if not self._ready and not self._ended:
                    batch = await self.next_batch()
                    self._ended = batch is None
                    self._ready.extend(batch or ())
            if self._ended and not self._ready:
                return None
        return self._ready.popleft()

    async def next_batch(self) -> Sequence[Any] | None:
        """Return the next batch as it was read, or None at the end. For a single caller."""
        if self._blocking:
            return await self._services.in_thread(next, self._iterator, None)
        return next(self._iterator, None)
