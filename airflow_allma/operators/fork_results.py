"""What a fork's tasks left behind, as results in item order, measured against what was planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.chunk_plan import ChunkSpec
from airflow_allma.operators.chunk_results import read_part
from airflow_allma.operators.xcoms import Key, pull, pull_all

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult, CompiledBranch, CompiledFork
    from airflow_allma.operators.run import TaskRun

__all__ = ["BranchTasks", "chunk_results", "memory_results"]

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
    run: TaskRun,
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
            yield found or _lost(compiled, index, _why(tasks, states, index))


def _is_current(state: str | None, *, is_first: bool) -> bool:
    # A task that Airflow skips or fails without a process of its own keeps the XComs of an earlier try. The first
    # task of a branch is the only one that skips itself and has something to say about it.
    return state in {"success", "failed"} or (is_first and state == "skipped")


def _why(tasks: BranchTasks, states: Mapping[str, str | None], index: int) -> str:
    told = {task: states.get(f"{task}_{index}") for task in tasks.tasks}
    for task, state in told.items():
        if state == "failed":
            return f"task {task}[{index}] failed and left no result: its process was killed"
    return "its tasks ended as " + ", ".join(f"{task}: {state}" for task, state in told.items())


def _lost(branch: CompiledBranch, index: int, why: str) -> BranchResult:
    from airflow_allma.engine import BranchResult, BranchStatus

    error = PermanentStepError(
        f"Item {index}, branch {branch.branch_id}: {why}. Clear the item's tasks to run it again.",
        error_name=LOST,
        details={"itemIndex": index, "branchId": branch.branch_id},
    )
    return BranchResult(index, branch.index, branch.branch_id, BranchStatus.FAILED, error=error.as_dict())


def chunk_results(
    run: TaskRun,
    fork: CompiledFork,
    plan: Mapping[str, Any],
    task: str,
    states: Mapping[str, str | None],
) -> Iterator[BranchResult]:
    """The results of all chunks, in item order; a chunk is held in memory at a time, never all.

    Args:
        run: the asking task.
        fork: the fork.
        plan: what the fork's ``chunks`` task planned.
        task: full id of the task that ran the chunks.
        states: the states of its instances.
    """
    left: dict[int, dict[str, Any]] = {}
    for saved in pull_all(run.ti, task, Key.RESULTS):
        if states.get(f"{task}_{saved['number']}") in {"success", "failed"}:
            left[saved["number"]] = saved
    before = 0
    for planned in map(ChunkSpec.from_dict, plan["chunks"]):
        saved = left.get(planned.number)
        if saved is None:
            why = _why_chunk(run, task, planned, states)
            yield from _lost_chunk(fork, planned, before, why)
            before += planned.count or 1
            continue
        # Where nobody counted the lines before, a chunk's own indexes begin at 0.
        shift = before if planned.first is None else 0
        yield from _of_chunk(run, fork, saved, planned.first or 0, shift)
        before += int(saved["items"])


def _why_chunk(run: TaskRun, task: str, planned: ChunkSpec, states: Mapping[str, str | None]) -> str:
    state = states.get(f"{task}_{planned.number}")
    error = pull(run.ti, task, Key.ERROR, planned.number) if state == "failed" else None
    said = f": {error.get('errorName')}: {error.get('errorMessage')}" if error else " and left no result"
    return f"task {task}[{planned.number}] ({planned.label}) ended as {state}{said}"


def _of_chunk(
    run: TaskRun, fork: CompiledFork, saved: Mapping[str, Any], first: int, shift: int
) -> Iterator[BranchResult]:
    import msgspec

    from airflow_allma.engine import BranchResult

    if "part" in saved:
        results = list(_part_results(run, saved["part"]))
    else:
        results = [BranchResult.from_dict(one) for one in saved["results"]]
    results.sort(key=lambda result: (result.item_index, result.branch_index))
    seen = {result.item_index for result in results}
    if shift:
        results = [
            msgspec.structs.replace(result, item_index=result.item_index + shift) for result in results
        ]
    yield from results
    for index in range(first, first + int(saved["items"])):
        if index not in seen:
            yield _lost(fork.branches[0], index + shift, "its chunk ended without a result for it")


def _part_results(run: TaskRun, inner: Mapping[str, Any]) -> Iterator[BranchResult]:
    from airflow_allma.storage import Pointer

    part = Pointer.parse(inner)
    if part is None or run.services.store is None:
        raise PermanentStepError(f"The results of a chunk are not where they were put: {inner}.")
    return read_part(run.services.store, part)


def _lost_chunk(fork: CompiledFork, planned: ChunkSpec, before: int, why: str) -> Iterator[BranchResult]:
    for index in range(before, before + (planned.count or 1)):
        for branch in fork.branches:
            yield _lost(branch, index, why)
