"""The batches of a fork with an ``itemBatcher``.

Batches are formed where items are read. From there on a batch is an item like any other: an object
``{"first", "items"}``, or ``{"first", "error"}`` for an item that could not be read, which is alone. Only a
branch run sees it as ``{"items", "batchInput"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.item_error import ItemError
from airflow_allma.engine.results import BranchResult
from airflow_allma.exceptions import PermanentStepError

__all__ = ["MAX_BATCH_BYTES", "batches_of", "current_item", "label_of_batch", "size_of_batch", "with_batch"]

MAX_BATCH_BYTES: Final = 8 << 20
"""Maximum bytes of a batch whatever the flow says: it is one line of an object, and one value in memory."""


def batches_of(items: Iterable[Any], limits: ForkLimits) -> Iterator[dict[str, Any]]:
    """Yield the batches of a fork's items, in order; every item is in exactly one.

    An item that is larger than ``maxBytesPerBatch`` is a batch of its own, as is an ``ItemError``.

    Args:
        items: all items of the fork.
        limits: the fork's numbers in this run.
    """
    most = limits.batch_items
    most_bytes = min(limits.batch_bytes or MAX_BATCH_BYTES, MAX_BATCH_BYTES)
    batch: list[Any] = []
    size = index = 0
    for item in items:
        is_error = item.__class__ is ItemError
        # The brackets and commas of the list count too.
        added = 0 if is_error else len(msgspec.json.encode(item)) + 1
        if batch and (is_error or len(batch) == most or size + added > most_bytes):
            yield {"first": index - len(batch), "items": batch}
            batch, size = [], 0
        if is_error:
            yield {"first": index, "error": item.error.as_dict()}
        else:
            size += added + (not batch)
            batch.append(item)
        index += 1
    if batch:
        yield {"first": index - len(batch), "items": batch}


def current_item(batch: Mapping[str, Any], batch_input: Mapping[str, Any]) -> Any:
    """Return what a branch run sees as its ``currentItem``; an ``ItemError`` for an item without a value."""
    error = batch.get("error")
    if error is None:
        return {"items": batch["items"], "batchInput": batch_input}
    return ItemError(
        PermanentStepError(
            str(error.get("errorMessage")),
            details=error.get("errorDetails"),
            error_name=error.get("errorName"),
        )
    )


def size_of_batch(batch: Mapping[str, Any]) -> int:
    """Return how many items a batch has."""
    items = batch.get("items")
    return len(items) if isinstance(items, list) else 1


def label_of_batch(batch: Mapping[str, Any]) -> str:
    """Return the name of a batch in the UI: the indexes of its items, such as ``items 40-49``."""
    first, size = int(batch["first"]), size_of_batch(batch)
    return f"items {first}-{first + size - 1}" if size > 1 else f"item {first}"


def with_batch(result: BranchResult, batch: Mapping[str, Any] | ItemError) -> BranchResult:
    """Return the result of a batch's branch run with the number of its items; an error also names them."""
    if isinstance(batch, ItemError):
        return result
    size, error = size_of_batch(batch), result.error
    if error is not None:
        where = {"firstItemIndex": batch["first"], "itemCount": size}
        error = {**error, "errorDetails": {**where, **(error.get("errorDetails") or {})}}
    return msgspec.structs.replace(result, items=size, error=error)
