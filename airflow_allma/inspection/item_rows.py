"""The rows of a page of items, and values as pages show them: of items in chunks, and of those in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from airflow_allma.common.printable import printable
from airflow_allma.distributed.result_index import FailureLine
from airflow_allma.engine.masking import mask_json_text, mask_secrets
from airflow_allma.exceptions import AllmaError
from airflow_allma.inspection.failure_entries import failure_line
from airflow_allma.storage.decoding import decode_line

__all__ = [
    "MAX_VALUE_BYTES",
    "cut_value",
    "error_row",
    "item_row",
    "shown_value",
]

MAX_VALUE_BYTES: Final = 1 << 20
"""Larger values are cut on pages; they can be downloaded."""
_CUT_CHARACTERS: Final = 64 << 10


def item_row(
    *,
    index: int | None,
    label: str | None,
    branch: str | None,
    status: str,
    failure: FailureLine | None = None,
    message: str = "",
    seconds: float | None = None,
    chunk: int | None = None,
    item: int | None = None,
    map_index: int | None = None,
) -> dict[str, Any]:
    """Return a row of a page of items.

    Args:
        index: the item's index; None if it cannot be counted yet.
        label: its label; None if that is not known.
        branch: the branch's id; None if the item has none.
        status: ``ok``, ``failed``, ``skipped``, ``running``, ``waiting`` or ``none``.
        failure: how it failed.
        message: what else there is to say about its status.
        seconds: how long it took, if that is known.
        chunk: the number of its chunk; None in memory.
        item: its index in the chunk.
        map_index: the map index of its task.
    """
    shown = label or (failure.label if failure is not None else "") or ("" if index is None else str(index))
    return {
        "index": index,
        "label": printable(shown),
        "branch": branch,
        "status": status,
        "step": None if failure is None else failure.step,
        "errorName": None if failure is None else failure.error_name,
        "httpStatus": None if failure is None else failure.status,
        "message": (message or None) if failure is None else failure.message,
        "kind": None if failure is None else failure.kind,
        "seconds": seconds,
        "chunk": chunk,
        "item": item,
        "mapIndex": map_index,
    }


def error_row(error: Mapping[str, Any], branch: str | None = None) -> FailureLine:
    """Return how a branch run failed, for ``item_row``, from the four fields of its error."""
    return failure_line(0, branch or "", 0, error)


def shown_value(value: Any, mask: Callable[[Any], Any] = mask_secrets) -> tuple[Any, bool]:
    """Return a value as a page shows it, and whether it is cut."""
    encoded = msgspec.json.encode(value)
    return cut_value(encoded, len(encoded), mask)


def cut_value(encoded: bytes, size: int, mask: Callable[[Any], Any] = mask_secrets) -> tuple[Any, bool]:
    """Return a JSON value as a page shows it, and whether it is cut.

    A cut value is ``{"$cut": the beginning of its JSON, "$bytes": its size}``.

    Args:
        encoded: the JSON, or its beginning.
        size: bytes of the whole JSON.
        mask: masks its secrets.
    """
    problem = {}
    if len(encoded) == size <= MAX_VALUE_BYTES:
        try:
            return mask(decode_line(encoded)), False
        except AllmaError as error:
            problem = {"$problem": str(error)}
    # Masked before it is cut: the end of a part of a secret would not be found.
    shown = mask(mask_json_text(encoded[: 2 * _CUT_CHARACTERS].decode(errors="replace")))
    return {"$cut": str(shown)[:_CUT_CHARACTERS], **(problem or {"$bytes": size})}, True
