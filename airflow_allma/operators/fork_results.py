"""What a fork's tasks left behind, as results in item order, measured against what was planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.xcoms import Key, pull_all

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledBranch, CompiledFork
    from airflow_allma.operators.task_context import TaskContext

__all__ = ["BranchTasks", "lost_result", "memory_results"]

LOST = "BranchResultLost"
"""``errorName`` of a branch run of which nothing is known."""


@dataclass(frozen=True, slots=True)
class BranchTasks:
    """The tasks of one branch.

    Attributes:
        first: full id of the task in which it begins.
        tasks: full ids of all, the first included.
    """

    first: str
    tasks: tuple[str, ...]


def memory_results(
    run: TaskContext,
    fork: CompiledFork,
    count: int,
    branches: Sequence[BranchTasks],
    states: Mapping[str, str | None],
) -> Iterator[BranchResult]:
    """The results of mapped branch tasks, one for each item and branch, in that order.

    Args:
        run: the asking task.
        fork: the fork.
        count: how many items were planned.
        branches: the tasks of each of the fork's branches.
        states: the states of all these tasks.
    """
    from airflow_allma.engine import BranchResult

    known: dict[tuple[int, int], BranchResult] = {}
    if count:
        for branch in branches:
            for task in branch.tasks:
                for saved in pull_all(run.ti, task, Key.RESULT):
                    result = BranchResult.from_dict(saved)
                    if _is_current(states.get(f"{task}_{result.item_index}"), is_first=task == branch.first):
                        known[result.item_index, result.branch_index] = result
    for index in range(count):
        for compiled, tasks in zip(fork.branches, branches, strict=True):
            found = known.get((index, compiled.index))
            yield found or lost_result(compiled, index, _why(tasks, states, index))


def _is_current(state: str | None, *, is_first: bool) -> bool:
    # A task that Airflow skips or fails without a process of its own keeps the XComs of an earlier try. The
    # first task of a branch is the only one that skips itself and has something to say about it.
    return state in {"success", "failed"} or (is_first and state == "skipped")


def _why(tasks: BranchTasks, states: Mapping[str, str | None], index: int) -> str:
    told = {task: states.get(f"{task}_{index}") for task in tasks.tasks}
    for task, state in told.items():
        if state == "failed":
            return f"task {task}[{index}] failed and left no result: its process was killed"
    return "its tasks ended as " + ", ".join(f"{task}: {state}" for task, state in told.items())


def lost_result(branch: CompiledBranch, index: int, why: str) -> BranchResult:
    """The failure that stands for a branch run of which nothing is known."""
    from airflow_allma.engine import BranchResult, BranchStatus

    error = PermanentStepError(
        f"Item {index}, branch {branch.branch_id}: {why}. Clear the item's tasks to run it again.",
        error_name=LOST,
        details={"itemIndex": index, "branchId": branch.branch_id},
    )
    return BranchResult(index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error.as_dict())
