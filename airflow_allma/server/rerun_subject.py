"""Which items of a fork are to run again, and what Airflow's database knows of the fork's tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from airflow_allma.dag_factory.plan import TaskNode, TaskPlan, TaskRole

__all__ = ["RerunFork", "RerunItems", "RerunSubject", "RerunWhat"]

_ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed", None})


class RerunWhat(StrEnum):
    """Which items are to run again."""

    FAILED = "failed"
    """All that failed, or have no result."""
    KIND = "kind"
    """Those that failed for the same reason."""
    ITEM = "item"
    """One, whatever its result."""


@dataclass(frozen=True, slots=True)
class RerunSubject:
    """Which items are to run again.

    Attributes:
        what: all that failed, those of one kind, or one item.
        kind: the kind's id, for ``kind``.
        index: the item's index in the fork, for ``item``.
    """

    what: RerunWhat
    kind: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class RerunItems:
    """The items that a ``RerunSubject`` means.

    Attributes:
        count: how many they are.
        chunks: chunk number -> indexes in the chunk, from 0, of a fork that runs in chunks.
        branches: index of the branch -> indexes of items, of a fork whose items are task instances.
        is_complete: whether ``chunks`` names all of them; if not, only the chunks are known.
        lost: the chunks that have ended, but have nothing stored: all their items run again.
    """

    count: int
    chunks: Mapping[int, Sequence[int]] = field(default_factory=dict)
    branches: Mapping[int, Sequence[int]] = field(default_factory=dict)
    is_complete: bool = True
    lost: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class RerunFork:
    """A fork in a run, as Airflow's database has it.

    Attributes:
        dag_id: the Dag.
        run_id: the run.
        run_state: its state.
        plan: the tasks of the run's Dag.
        fork: the fork's step id.
        states: full task id -> map index -> state, of the fork's own tasks.
        in_chunks: whether it runs in chunks.
        is_stored: whether the results of chunks are stored.
        chunk_items: chunk number -> how many items it has, where that is known.
        selection: the value of the XCom ``allma_rerun`` of the fork's ``chunks`` task; None without one.
        chunk_starts: chunk number -> when the last try of its task began, in seconds since the epoch.
    """

    dag_id: str
    run_id: str
    run_state: str | None
    plan: TaskPlan
    fork: str
    states: Mapping[str, Mapping[int, str | None]]
    in_chunks: bool
    is_stored: bool
    chunk_items: Mapping[int, int | None] = field(default_factory=dict)
    selection: Any = None
    chunk_starts: Mapping[int, float] = field(default_factory=dict)

    def task(self, role: TaskRole) -> TaskNode:
        """Return one of the fork's own tasks.

        Raises:
            KeyError: the flow lacks this fork.
        """
        for node in self.plan.of_fork(self.fork):
            if node.role is role and node.branch is None:
                return node
        raise KeyError(self.fork)

    def first_task(self, branch: int) -> TaskNode:
        """Return the task in which a branch begins."""
        return next(node for node in self.plan.of_fork(self.fork) if node.branch == branch)

    def branches(self) -> int:
        """Return how many branches of the fork have tasks of their own."""
        return len({node.branch for node in self.plan.of_fork(self.fork) if node.branch is not None})

    def running(self) -> int:
        """Return how many task instances of the fork have not ended."""
        return sum(state not in _ENDED for states in self.states.values() for state in states.values())
