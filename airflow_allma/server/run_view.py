"""A run of a flow as its page shows it: the state of each step, from the states of Airflow's tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from sqlalchemy.orm import Session

from airflow_allma.common.checkpoint_notes import checkpoint_in
from airflow_allma.compat import redact_connections
from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.dag_flows import DagFlow
from airflow_allma.server.open_waits import list_waits
from airflow_allma.server.rights import UserRights
from airflow_allma.server.run_database import count_tasks, find_note, find_tasks, find_xcoms, first_tasks
from airflow_allma.server.run_rows import RunRow, TaskCounts, TaskRow
from airflow_allma.server.run_tokens import run_tokens

__all__ = ["STEP_STATES", "epoch", "run_page", "tasks_of_steps"]

STEP_STATES: Final[Mapping[str, str]] = {
    "none": "none",
    "removed": "none",
    "scheduled": "queued",
    "queued": "queued",
    "restarting": "queued",
    "up_for_retry": "waiting",
    "up_for_reschedule": "waiting",
    "deferred": "waiting",
    "awaiting_input": "waiting",
    "running": "running",
    "success": "success",
    "failed": "failed",
    "skipped": "skipped",
    "upstream_failed": "upstream_failed",
}
"""Airflow's states of tasks -> those of steps."""

_SHOWN: Final = ("running", "waiting", "queued", "failed", "upstream_failed", "success", "skipped", "none")
"""Of a step with tasks in several states, the first of these is the step's."""

_ACTIVE: Final = frozenset({"running", "waiting", "queued"})
_ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed"})
_MAX_TASKS: Final = 20
_MAX_WAITS: Final = 200


def epoch(time: datetime | None) -> float | None:
    """Return a time in seconds since the epoch."""
    return None if time is None else time.timestamp()


def run_page(
    session: Session,
    run: RunRow,
    found: DagFlow,
    user: BaseUser,
    *,
    dag_id: str,
    in_chunks: Collection[str],
) -> dict[str, Any]:
    """Return what the page of a run shows, but for its forks.

    Args:
        session: the database.
        run: the run.
        found: its flow.
        user: who asks; what waits needs a right of its own.
        dag_id: the Dag.
        in_chunks: the forks whose items run in chunks: the tasks of their branches say nothing.
    """
    shown = first_tasks(session, dag_id, run.run_id, _MAX_TASKS)
    checkpoint = checkpoint_in(find_note(session, dag_id, run.run_id))
    return {
        "isFlow": True,
        "dagId": dag_id,
        "runId": run.run_id,
        "flowId": found.flow.id,
        "version": found.flow.version,
        "state": run.state,
        "start": epoch(run.start),
        "end": epoch(run.end),
        "isRunning": run.is_running,
        "picture": found.picture.to_json(),
        "steps": _steps(found, count_tasks(session, dag_id, run.run_id), shown, in_chunks),
        "forks": [],
        "checkpoint": None if checkpoint is None else {"name": checkpoint[0], "at": checkpoint[1]},
        "waits": _waits(session, dag_id, run.run_id, user),
        "tokens": run_tokens(session, dag_id, run.run_id, [node.task_id for node in found.tasks.tasks]),
        "error": _error(session, dag_id, run, found) if run.state == "failed" else None,
    }


def tasks_of_steps(found: DagFlow) -> dict[str, list[str]]:
    """Return the tasks that run each step, by step id; a fork has all of its own tasks.

    A step that several branches or paths share has the tasks of all of them.
    """
    tasks: dict[str, list[str]] = {}
    for node in found.tasks.tasks:
        for step in node.steps:
            tasks.setdefault(step, []).append(node.task_id)
    return tasks


def _steps(
    found: DagFlow,
    counts: Iterable[TaskCounts],
    shown: Mapping[str, Sequence[TaskRow]],
    in_chunks: Collection[str],
) -> dict[str, dict[str, Any]]:
    in_branches = (node for node in found.tasks.tasks if node.branch is not None)
    unused = {node.task_id for node in in_branches if node.fork in in_chunks}
    by_task: dict[str, list[TaskCounts]] = {}
    for task_counts in counts:
        if task_counts.task_id not in unused:
            by_task.setdefault(task_counts.task_id, []).append(task_counts)
    used = {task: rows for task, rows in shown.items() if task not in unused}
    return {step: _step(found, step, tasks, by_task, used) for step, tasks in tasks_of_steps(found).items()}


def _step(
    found: DagFlow,
    step: str,
    tasks: Sequence[str],
    by_task: Mapping[str, Sequence[TaskCounts]],
    shown: Mapping[str, Sequence[TaskRow]],
) -> dict[str, Any]:
    counts = [count for task in tasks for count in by_task.get(task, ())]
    totals: dict[str, int] = {}
    for count in counts:
        name = STEP_STATES.get(count.state, "none")
        totals[name] = totals.get(name, 0) + count.count
    state = _fork_state(found, step, by_task) or next((name for name in _SHOWN if name in totals), "none")
    starts = [count.start for count in counts if count.start is not None]
    ends = [count.end for count in counts if count.end is not None]
    start, end = min(starts, default=None), max(ends, default=None)
    is_over = state not in _ACTIVE
    return {
        "state": state,
        "counts": totals,
        "start": epoch(start),
        "end": epoch(end) if is_over else None,
        "seconds": (end - start).total_seconds() if is_over and start and end else None,
        "tries": max((count.tries for count in counts), default=0),
        "tasks": [
            {"taskId": row.task_id, "mapIndex": row.map_index, "state": STEP_STATES.get(row.state, "none")}
            for row in [row for task in tasks for row in shown.get(task, ())][:_MAX_TASKS]
        ],
    }


def _fork_state(found: DagFlow, step: str, by_task: Mapping[str, Sequence[TaskCounts]]) -> str | None:
    """Return the state of a fork, from all that runs in it; None for other steps."""
    fork = found.forks.get(step)
    if fork is None:
        return None
    aggregate = fork.task(TaskRole.AGGREGATE)
    of_aggregate = {STEP_STATES.get(count.state, "none") for count in by_task.get(aggregate, ())}
    ended = of_aggregate & _ENDED
    if ended:
        return next(iter(ended))
    states = {
        STEP_STATES.get(count.state, "none") for node in fork.nodes for count in by_task.get(node.task_id, ())
    }
    active = next((state for state in _SHOWN if state in states & _ACTIVE), None)
    return active or ("running" if states & _ENDED else "none")


def _waits(session: Session, dag_id: str, run_id: str, user: BaseUser) -> list[dict[str, Any]]:
    rights = UserRights(user)
    if not rights.may_see(dag_id):
        return []
    may_resume = rights.may_resume(dag_id)
    found = list_waits(session, [dag_id], at_most=_MAX_WAITS, run_id=run_id)
    return [
        {
            "key": wait.wait.key,
            "step": wait.wait.step,
            "message": wait.wait.message,
            "since": wait.wait.since,
            "until": wait.wait.until,
            "mayResume": may_resume,
        }
        for wait in found
    ]


def _error(session: Session, dag_id: str, run: RunRow, found: DagFlow) -> Any:
    """Return the error of the task of the main path that failed last; None if none has pushed one."""
    ids = [node.task_id for node in found.tasks.tasks if not node.is_mapped]
    failed = [row for row in find_tasks(session, dag_id, run.run_id, ids) if row.state == "failed"]
    pushed = {
        row.task_id: row.json()
        for row in find_xcoms(
            session, dag_id, run.run_id, [row.task_id for row in failed], [Key.ERROR.value], map_indexes=[-1]
        )
    }
    for row in sorted(failed, key=lambda row: epoch(row.end) or 0, reverse=True):
        if isinstance(pushed.get(row.task_id), dict):
            return redact_connections(pushed[row.task_id])
    return None
