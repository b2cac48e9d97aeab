"""The result of one branch run: the unit that forks aggregate and chunks write."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from airflow_allma.common.json_form import JsonForm

__all__ = ["BranchResult", "BranchStatus"]


class BranchStatus(StrEnum):
    """How a branch run ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The branch's condition did not match the item: it is counted as planned, but yields nothing."""


class BranchResult(JsonForm, msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One branch run of one item.

    Attributes:
        item_index: the item's index, from 0.
        branch_index: the branch's index in the fork, from 0.
        branch_id: the branch.
        status: how it ended.
        output: what ``dataPath`` matched (null if it matched nothing).
        error: with FAILED: ``{errorName, errorMessage, errorDetails, isRetryable}``.
        items: how many items it stands for: those of its batch.
    """

    item_index: int
    branch_index: int
    branch_id: str
    status: BranchStatus = BranchStatus.OK
    output: Any = None
    error: dict[str, Any] | None = None
    items: int = 1
