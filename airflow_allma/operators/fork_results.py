"""The results that a fork's mapped tasks pushed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.compat import instance_key
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.transport import restore_key_order
from airflow_allma.operators.xcoms import Key, pull, pull_all, pull_all_returned, pull_returned, push

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkSpec
    from airflow_allma.engine import BranchResult, CompiledFork

__all__ = ["BranchTasks", "ChunkTaskOutcomes", "memory_results", "push_result"]

_HAS_RETURNED: Final = "hasReturned"
_RETURNS: Final = {_HAS_RETURNED: True}

_MAX_DOUBTFUL: Final = 5
"""Looking for a return value that does not exist makes Airflow log an error."""


@dataclass(frozen=True, slots=True)
class BranchTasks:
    """The tasks of one branch.

    Attributes:
        first: full id of the task in which it begins.
        tasks: full ids of all, including the first.
    """

    first: str
    tasks: tuple[str, ...]


def push_result(ti: Any, result: BranchResult, *, has_returned: bool = False) -> None:
    """Push the result of a branch run.

    Args:
        ti: the task instance in which it ends.
        result: the result.
        has_returned: whether the task has a return value too, which is not the result.
    """
    push(ti, Key.RESULT, {**result.to_dict(), **({_HAS_RETURNED: True} if has_returned else {})})


def memory_results(
    current: TaskContext,
    fork: CompiledFork,
    count: int,
    branches: Sequence[BranchTasks],
    *,
    states: Mapping[str, str | None],
    returning: Mapping[str, Sequence[str]],
) -> Iterator[BranchResult]:
    """Yield the results of mapped branch tasks, one for each item and branch, in that order.

    Args:
        current: the asking task.
        fork: the fork.
        count: how many items were planned.
        branches: the tasks of each of the fork's branches.
        states: the states of all these tasks.
        returning: the tasks whose return value is the branch's result unless they pushed another one, with
            the known keys of these values.
    """
    from airflow_allma.distributed.lost_results import lost_result
    from airflow_allma.engine import BranchResult

    known: dict[tuple[int, int], BranchResult] = {}
    if count:
        for branch_index, branch in enumerate(branches):
            compiled = fork.branches[branch_index]
            for task in branch.tasks:
                instances = _Instances(current, task, count, states, is_first=task == branch.first)
                pushed = instances.pushed()
                for index, saved in pushed.items():
                    known[index, branch_index] = BranchResult.from_dict(saved)
                if task in returning:
                    for index, output in instances.returned(pushed).items():
                        known[index, branch_index] = BranchResult(
                            index,
                            branch_index,
                            compiled.branch_id,
                            output=restore_key_order(output, returning[task]),
                        )
    for index in range(count):
        for compiled, tasks in zip(fork.branches, branches, strict=True):
            result_or_none = known.get((index, compiled.index))
            yield result_or_none or lost_result(compiled, index, _reason(tasks, states, index))


@dataclass(frozen=True, slots=True)
class _Instances:
    """The instances of one mapped task of a branch."""

    current: TaskContext
    task: str
    count: int
    states: Mapping[str, str | None]
    is_first: bool

    def _state(self, index: int) -> str | None:
        return self.states.get(instance_key(self.task, index))

    def pushed(self) -> dict[int, Any]:
        """Return map index -> the result that it pushed."""
        results = (saved for saved in pull_all(self.current.ti, self.task, Key.RESULT))
        return {saved["itemIndex"]: saved for saved in results if self._is_current(saved["itemIndex"])}

    def _is_current(self, index: int) -> bool:
        # A task that Airflow skips or fails without a process of its own keeps the XComs of an earlier try.
        # The first task of a branch is the only one that skips itself and pushes a result.
        state = self._state(index)
        return state in {"success", "failed"} or (self.is_first and state == "skipped")

    def returned(self, pushed: Mapping[int, Any]) -> dict[int, Any]:
        """Return map index -> return value, for the tasks that succeeded and pushed no result.

        One call brings all return values, but not their map indexes. They are known if every task that
        can have returned something has: then there are as many values. Tasks that did not succeed can have
        values of an earlier try, and are looked at one by one.
        """
        succeeded = [index for index in range(self.count) if self._state(index) == "success"]
        wanted = [index for index in succeeded if index not in pushed]
        if not wanted:
            return {}
        doubtful = [
            index
            for index in range(self.count)
            if self._state(index) != "success"
            and pushed.get(index, {}).get("status") not in {"failed", "skipped"}
        ]
        expected = [index for index in succeeded if pushed.get(index, _RETURNS).get(_HAS_RETURNED)]
        ti, task = self.current.ti, self.task
        if len(doubtful) <= _MAX_DOUBTFUL and instance_key(task, self.count) not in self.states:
            values = pull_all_returned(ti, task)
            if len(values) == len(expected) and all(pull_returned(ti, task, one) is None for one in doubtful):
                by_index = dict(zip(expected, values, strict=True))
                return {index: by_index[index] for index in wanted}
        one_by_one = ((index, pull_returned(ti, task, index)) for index in wanted)
        return {index: value for index, value in one_by_one if value is not None}


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
