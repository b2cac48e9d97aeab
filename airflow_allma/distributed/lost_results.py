"""Branch runs without a result: the failure that replaces it, and which ones are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_allma.engine import BranchResult, BranchStatus, CompiledBranch, CompiledFork
from airflow_allma.exceptions import AllmaError, PermanentStepError

__all__ = ["LOST", "lost_result", "missing_branches", "unwritable_result"]

LOST: Final = "BranchResultLost"
"""``errorName`` of a branch run without a result."""


def lost_result(branch: CompiledBranch, index: int, reason: str) -> BranchResult:
    """Return the failure that replaces the missing result of a branch run."""
    error = PermanentStepError(
        f"Item {index}, branch {branch.branch_id}: {reason}. Clear the item's tasks to run it again.",
        error_name=LOST,
        details={"itemIndex": index, "branchId": branch.branch_id},
    )
    return BranchResult(index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error.as_dict())


def unwritable_result(result: BranchResult, reason: AllmaError) -> BranchResult:
    """Return the failure that replaces a result whose output cannot be written as JSON.

    Raises:
        AllmaError: ``reason``, if the result is a failure already.
    """
    if result.status is BranchStatus.FAILED:
        raise reason
    error = PermanentStepError(
        f"Item {result.item_index}, branch {result.branch_id}: the result cannot be stored. {reason}",
        details={"itemIndex": result.item_index, "branchId": result.branch_id},
    )
    return BranchResult(
        result.item_index,
        result.branch_index,
        result.branch_id,
        BranchStatus.FAILED,
        error=error.as_dict(),
        items=result.items,
    )


def missing_branches(fork: CompiledFork, results: Sequence[BranchResult]) -> Sequence[CompiledBranch]:
    """Return the branches whose results an item lacks.

    Args:
        fork: the fork.
        results: the results of one item.
    """
    known = {result.branch_index for result in results}
    missing = [branch for branch in fork.branches if branch.index not in known]
    if not fork.first_only:
        return missing
    # Where one branch ran, no other was to run; where none did, one result is lost.
    ran = any(result.status is not BranchStatus.SKIPPED for result in results)
    return () if ran else missing[:1]
