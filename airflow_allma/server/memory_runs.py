"""The branch runs of a fork whose items have map indexes of their own, from Airflow's tasks and XComs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from airflow_allma.dag_factory.plan import TaskNode
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.dag_flows import ForkTasks
from airflow_allma.server.run_database import find_tasks, find_xcoms
from airflow_allma.server.run_rows import TaskRow

__all__ = ["BranchRun", "MemoryFork", "read_memory_fork"]

_LOST: Final = {
    "errorName": "TaskLost",
    "errorMessage": "The task ended without a result: its process was lost, or somebody marked it.",
    "errorDetails": None,
    "isRetryable": False,
}
_ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_WAITING: Final = frozenset({"awaiting_input", "deferred", "up_for_retry", "up_for_reschedule"})
_BEGUN: Final = _WAITING | {"running", "restarting"}


@dataclass(frozen=True, slots=True)
class BranchRun:
    """One branch run of one item.

    Attributes:
        index: the item's index, which is its map index.
        branch: the branch's id.
        status: "ok", "failed", "skipped", "running", "waiting" or "none".
        label: the item's label in the UI.
        error: the four fields of its error; None unless it failed.
        task: the task instance in which it ended or is now; None before it has begun.
        tasks: all of its task instances, in the order of the branch.
        steps: the steps that the task runs.
    """

    index: int
    branch: str
    status: str
    label: str | None
    error: Mapping[str, Any] | None
    task: TaskRow | None
    tasks: tuple[TaskRow, ...]
    steps: tuple[str, ...]

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.status in {"ok", "failed", "skipped"}

    @property
    def seconds(self) -> float | None:
        """How long its tasks took together; None if none has ended."""
        taken = [task.seconds for task in self.tasks if task.seconds is not None]
        return sum(taken) if taken else None


@dataclass(frozen=True, slots=True)
class MemoryFork:
    """All branch runs of a fork in memory.

    Attributes:
        count: how many items it has.
        branches: the ids of its branches.
        runs: by item and branch, in the order of items.
    """

    count: int
    branches: tuple[str, ...]
    runs: tuple[BranchRun, ...]

    def of_item(self, index: int) -> tuple[BranchRun, ...]:
        """Return the branch runs of an item."""
        size = len(self.branches)
        return self.runs[index * size : (index + 1) * size]


def read_memory_fork(session: Session, tasks: ForkTasks, dag_id: str, run_id: str, count: int) -> MemoryFork:
    """Read the branch runs of a fork.

    Args:
        session: the database.
        tasks: the fork's tasks.
        dag_id: the Dag.
        run_id: the run.
        count: how many items the fork has.
    """
    nodes = [node for node in tasks.nodes if node.branch is not None]
    ids = [node.task_id for node in nodes]
    instances: dict[tuple[str, int], TaskRow] = {
        (row.task_id, row.map_index): row for row in find_tasks(session, dag_id, run_id, ids)
    }
    ended_badly = {row.map_index for row in instances.values() if row.state in {"failed", "skipped"}}
    pushed: dict[tuple[str, int], dict[str, Any]] = {}
    keys = [Key.ERROR.value, Key.RESULT.value]
    for row in find_xcoms(session, dag_id, run_id, ids, keys, map_indexes=sorted(ended_badly)):
        value = row.json()
        if isinstance(value, dict):
            pushed.setdefault((row.task_id, row.map_index), {})[row.key] = value
    branches = tasks.group.step.parallel_branches
    runs = (
        _run(branch.branch_id, tasks.of_branch(number), index, instances, pushed)
        for index in range(count)
        for number, branch in enumerate(branches)
    )
    return MemoryFork(count, tuple(branch.branch_id for branch in branches), tuple(runs))


def _run(
    branch: str,
    nodes: Sequence[TaskNode],
    index: int,
    instances: Mapping[tuple[str, int], TaskRow],
    pushed: Mapping[tuple[str, int], Mapping[str, Any]],
) -> BranchRun:
    rows = tuple(row for node in nodes if (row := instances.get((node.task_id, index))) is not None)
    status, task = _status(rows, nodes[0].task_id if nodes else "")
    error = None
    if status == "failed" and task is not None:
        error = next(_errors(pushed.get((task.task_id, index), {})), _LOST)
    label = next((row.label for row in reversed(rows) if row.label), None)
    steps = next((node.steps for node in nodes if task is not None and node.task_id == task.task_id), ())
    return BranchRun(index, branch, status, label, error, task, rows, steps)


def _errors(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    error = values.get(Key.ERROR.value)
    if error:
        yield error
    error = values.get(Key.RESULT.value, {}).get("error")
    if isinstance(error, dict):
        yield error


def _status(rows: Sequence[TaskRow], first: str) -> tuple[str, TaskRow | None]:
    """Return the status of a branch run, and the task instance that decides it."""
    if not rows:
        return "none", None
    states = {row.state: row for row in reversed(rows)}
    if "failed" in states:
        return "failed", states["failed"]
    if "upstream_failed" in states:
        return "failed", states["upstream_failed"]
    for row in rows:
        if row.state in _WAITING:
            return "waiting", row
        if row.state in _BEGUN:
            return "running", row
    unfinished = [row for row in rows if row.state not in _ENDED]
    succeeded = [row for row in rows if row.state == "success"]
    if unfinished:
        return ("running" if succeeded else "none"), unfinished[0]
    if succeeded:
        return "ok", max(succeeded, key=lambda row: row.end.timestamp() if row.end else 0)
    skipped = next((row for row in rows if row.task_id == first), rows[0])
    return "skipped", skipped
