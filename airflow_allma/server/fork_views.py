"""What Airflow's database knows of a run's forks: how their items run, and what their tasks handed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy.orm import Session

from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.dag_flows import DagFlow, ForkTasks
from airflow_allma.server.memory_runs import MemoryFork, read_memory_fork
from airflow_allma.server.run_database import find_tasks, find_xcoms
from airflow_allma.server.run_rows import RunRow, TaskRow, XComRow
from airflow_allma.server.run_view import STEP_STATES

__all__ = ["ForkState", "empty_summary", "read_forks"]


@dataclass(frozen=True, slots=True)
class ForkState:
    """A fork of a run, as Airflow's database has it.

    Attributes:
        found: the flow.
        tasks: the fork's tasks.
        dag_id: the Dag.
        run: the run.
        decision: what the ``items`` task decided; None if it has not yet.
        plan: what the ``chunks`` task planned; None for a fork in memory, or if it has not yet.
        chunks: the task instances of the chunks.
        handed_on: map index -> what a chunk's task passed on.
        memory: the branch runs of a fork in memory; None for one in chunks, or if nothing is decided.
        items_state: the state of the ``items`` task if it has decided nothing; None if it has none.
    """

    found: DagFlow
    tasks: ForkTasks
    dag_id: str
    run: RunRow
    decision: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None
    chunks: tuple[TaskRow, ...] = ()
    handed_on: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    memory: MemoryFork | None = None
    items_state: str | None = None

    @property
    def no_items(self) -> dict[str, str] | None:
        """``state`` and ``reason`` of a fork that will have no items in this run; None of one that may."""
        if self.decision is not None:
            return None
        if self.items_state == "failed":
            task = self.tasks.task(TaskRole.ITEMS)
            return {"state": "failed", "reason": f"The task {task} failed before it knew the items."}
        if self.items_state == "skipped" or not self.run.is_running:
            return {"state": "skipped", "reason": "The run did not reach this fork."}
        return None

    @property
    def is_in_chunks(self) -> bool:
        """Whether the items run in chunks."""
        return self.decision is not None and self.decision.get("mode") == "chunks"


def read_forks(
    session: Session, found: DagFlow, forks: Sequence[ForkTasks], dag_id: str, run: RunRow
) -> list[ForkState]:
    """Read some forks of a run."""
    roles = (TaskRole.ITEMS, TaskRole.CHUNKS)
    asked = [fork.task(role) for fork in forks for role in roles]
    plans = _objects(find_xcoms(session, dag_id, run.run_id, asked, [Key.PLAN.value]))
    states = []
    for fork in forks:
        decision, plan = (plans.get((fork.task(role), -1)) for role in roles)
        states.append(_read_fork(session, ForkState(found, fork, dag_id, run, decision, plan)))
    return states


def _read_fork(session: Session, state: ForkState) -> ForkState:
    if state.decision is None:
        task = state.tasks.task(TaskRole.ITEMS)
        rows = find_tasks(session, state.dag_id, state.run.run_id, [task])
        known = STEP_STATES.get(rows[0].state) if rows else None
        return replace(state, items_state=known)
    if not state.is_in_chunks:
        count = state.decision.get("count")
        count = count if isinstance(count, int) else 0
        memory = read_memory_fork(session, state.tasks, state.dag_id, state.run.run_id, count)
        return replace(state, memory=memory)
    task = state.tasks.task(TaskRole.CHUNK)
    rows = find_tasks(session, state.dag_id, state.run.run_id, [task])
    pushed = find_xcoms(session, state.dag_id, state.run.run_id, [task], [Key.RESULTS.value])
    handed_on = {
        map_index: value for (_, map_index), value in _objects(pushed).items() if _is_handed_on(value)
    }
    return replace(state, chunks=tuple(rows), handed_on=handed_on)


def _is_handed_on(value: Mapping[str, Any]) -> bool:
    """Return whether a value is what a chunk's task hands on: users can write XComs, too."""
    counts = [value.get("items"), value.get("failed", 0)]
    return all(isinstance(count, int) and count >= 0 for count in counts)


def _objects(rows: Iterable[XComRow]) -> dict[tuple[str, int], dict[str, Any]]:
    values = (((row.task_id, row.map_index), row.json()) for row in rows)
    return {task: value for task, value in values if isinstance(value, dict)}


def empty_summary(state: ForkState) -> dict[str, Any]:
    """Return the summary of a fork of which nothing is known yet but how its items will run."""
    step = state.tasks.group.step
    decision = state.decision or {}
    return {
        "fork": state.tasks.fork,
        "name": state.tasks.group.label,
        "mode": "chunks" if state.is_in_chunks else "memory",
        **_NOT_BEGUN,
        "items": decision.get("count"),
        "branches": [branch.branch_id for branch in step.parallel_branches],
        "noItems": state.no_items,
    }


_NOT_BEGUN: Final[Mapping[str, Any]] = {
    "isExact": False,
    "ended": 0,
    "succeeded": 0,
    "failed": 0,
    "skipped": 0,
    "running": 0,
    "waiting": 0,
    "perSecond": None,
    "secondsLeft": None,
    "start": None,
    "end": None,
    "isRunning": False,
    "kinds": (),
    "chunks": None,
    "source": {"kind": "list"},
    "stored": False,
    "problem": None,
}
