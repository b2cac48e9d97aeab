"""The results that a fork's mapped tasks pushed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_allma.compat import instance_key
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.xcoms import Key, pull, pull_all

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkSpec
    from airflow_allma.engine import BranchResult, CompiledFork

__all__ = ["BranchTasks", "ChunkTaskOutcomes", "memory_results"]


@dataclass(frozen=True, slots=True)
class BranchTasks:
    """The tasks of one branch.

    Attributes:
        first: full id of the task in which it begins.
        tasks: full ids of all, including the first.
    """

    first: str
    tasks: tuple[str, ...]


def memory_results(
    current: TaskContext,
    fork: CompiledFork,
    count: int,
    branches: Sequence[BranchTasks],
    states: Mapping[str, str | None],
) -> Iterator[BranchResult]:
    """Yield the results of mapped branch tasks, one for each item and branch, in that order.

    Args:
        current: the asking task.
        fork: the fork.
        count: how many items were planned.
        branches: the tasks of each of the fork's branches.
        states: the states of all these tasks.
    """
    from airflow_allma.distributed.lost_results import lost_result
    from airflow_allma.engine import BranchResult

    known: dict[tuple[int, int], BranchResult] = {}
    if count:
        for branch in branches:
            for task in branch.tasks:
                for saved in pull_all(current.ti, task, Key.RESULT):
                    result = BranchResult.from_dict(saved)
                    state = states.get(instance_key(task, result.item_index))
                    if _is_current(state, is_first=task == branch.first):
                        known[result.item_index, result.branch_index] = result
    for index in range(count):
        for compiled, tasks in zip(fork.branches, branches, strict=True):
            result_or_none = known.get((index, compiled.index))
            yield result_or_none or lost_result(compiled, index, _reason(tasks, states, index))


def _is_current(state: str | None, *, is_first: bool) -> bool:
    # A task that Airflow skips or fails without a process of its own keeps the XComs of an earlier try. The
    # first task of a branch is the only one that skips itself and pushes a result.
    return state in {"success", "failed"} or (is_first and state == "skipped")


def _reason(tasks: BranchTasks, states: Mapping[str, str | None], index: int) -> str:
    of_item = {task: states.get(instance_key(task, index)) for task in tasks.tasks}
    for task, state in of_item.items():
        if state == "failed":
            return f"task {task}[{index}] failed without a result: its process was killed"
    return "its tasks ended as " + ", ".join(f"{task}: {state}" for task, state in of_item.items())


@dataclass(frozen=True, slots=True)
class ChunkTaskOutcomes:
    """How the mapped tasks of a fork's chunks ended.

    Attributes:
        current: the asking task.
        task: full id of the task that ran the chunks.
        states: the states of its instances.
    """

    current: TaskContext
    task: str
    states: Mapping[str, str | None]

    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """Return chunk number -> what its task pushed, for the tasks that ran to their end."""
        return {
            saved["number"]: saved
            for saved in pull_all(self.current.ti, self.task, Key.RESULTS)
            # A task that was cleared and has not run since keeps the XComs of an earlier try.
            if self._state(saved["number"]) in {"success", "failed"}
        }

    def reason(self, chunk: ChunkSpec) -> str:
        """Return why a chunk left items without results."""
        state = self._state(chunk.number)
        error = pull(self.current.ti, self.task, Key.ERROR, chunk.number) if state == "failed" else None
        why = f": {error.get('errorName')}: {error.get('errorMessage')}" if error else " without a result"
        return f"task {self.task}[{chunk.number}] ({chunk.label}) ended as {state}{why}"

    def _state(self, number: int) -> str | None:
        return self.states.get(instance_key(self.task, number))
