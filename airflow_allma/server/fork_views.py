"""What is known of a run's forks: how their items run, and how many have ended how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.dag_flows import DagFlow, ForkTasks
from airflow_allma.server.memory_items import memory_counts
from airflow_allma.server.memory_runs import read_memory_fork
from airflow_allma.server.run_database import find_xcoms
from airflow_allma.server.run_rows import RunRow, XComRow

__all__ = ["ForkState", "fork_states", "fork_summary"]


@dataclass(frozen=True, slots=True)
class ForkState:
    """What the tasks of a fork have handed on.

    Attributes:
        found: the flow.
        tasks: the fork's tasks.
        dag_id: the Dag.
        run: the run.
        decision: what the ``items`` task decided; None if it has not yet.
        plan: what the ``chunks`` task planned; None for a fork in memory, or if it has not yet.
    """

    found: DagFlow
    tasks: ForkTasks
    dag_id: str
    run: RunRow
    decision: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None


def fork_states(
    session: Session, found: DagFlow, forks: Sequence[ForkTasks], dag_id: str, run: RunRow
) -> list[ForkState]:
    """Read what the tasks of some forks have handed on."""
    roles = (TaskRole.ITEMS, TaskRole.CHUNKS)
    asked = [fork.task(role) for fork in forks for role in roles]
    rows = find_xcoms(session, dag_id, run.run_id, asked, [Key.PLAN.value])
    plans = {row.task_id: _object(row) for row in rows}
    return [
        ForkState(found, fork, dag_id, run, *(plans.get(fork.task(role)) for role in roles)) for fork in forks
    ]


def _object(row: XComRow) -> dict[str, Any] | None:
    value = row.json()
    return value if isinstance(value, dict) else None


def fork_summary(session: Session, state: ForkState) -> dict[str, Any]:
    """Return what is known of a fork: how its items run, and how many have ended how."""
    step = state.tasks.group.step
    summary: dict[str, Any] = {
        "fork": state.tasks.fork,
        "name": state.tasks.group.label,
        "mode": "memory",
        **_NOT_BEGUN,
        "branches": [branch.branch_id for branch in step.parallel_branches],
    }
    decision = state.decision
    if decision is None:
        return summary
    summary["mode"] = "chunks" if decision.get("mode") == "chunks" else "memory"
    if summary["mode"] == "memory":
        count = decision.get("count")
        items = read_memory_fork(
            session, state.tasks, state.dag_id, state.run.run_id, count if isinstance(count, int) else 0
        )
        summary |= memory_counts(items, is_running=state.run.is_running)
    return summary


_NOT_BEGUN: Final[Mapping[str, Any]] = {
    "items": None,
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
    "note": None,
}
"""The summary of a fork that the run has not reached."""
