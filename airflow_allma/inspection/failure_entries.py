"""Failures in the form in which chunks list them, made from error objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_allma.distributed.result_index import FailureLine
from airflow_allma.engine.failure_kinds import kind_of

__all__ = ["failure_line"]


def failure_line(
    item: int, branch: str, offset: int, error: Mapping[str, Any], label: str = ""
) -> FailureLine:
    """Return a failed branch run as an index lists it.

    Args:
        item: the item's index in the chunk, from 0.
        branch: the branch's id.
        offset: where the item's line begins in the manifest, in bytes.
        error: the four fields of the error, of whatever types.
        label: the item's label.
    """
    line = FailureLine.of(item, branch, offset, kind_of(error), error)
    return msgspec.structs.replace(line, label=label) if label else line
