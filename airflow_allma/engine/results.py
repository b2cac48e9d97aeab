"""What one branch run came to; the unit that forks aggregate and chunks write."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

import msgspec

__all__ = ["BranchResult", "BranchStatus"]


class BranchStatus(StrEnum):
    """How a branch run ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The branch's condition did not hold for the item: it is planned for, but yields nothing."""


class BranchResult(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One branch run of one item.

    Attributes:
        item_index: the item's place, from 0.
        branch_index: the branch's place in the fork, from 0.
        branch_id: the branch.
        status: how it ended.
        output: what ``dataPath`` found (null when it found nothing).
        error: with FAILED: ``{errorName, errorMessage, errorDetails, isRetryable}``.
    """

    item_index: int
    branch_index: int
    branch_id: str
    status: BranchStatus = BranchStatus.OK
    output: Any = None
    error: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object; fields that have their default are left out."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """What ``to_dict`` gave."""
        return msgspec.convert(saved, cls)
