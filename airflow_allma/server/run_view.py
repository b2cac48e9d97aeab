"""A run of a flow as its page shows it: the state of each step, from the states of Airflow's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.server.dag_flows import DagFlow
from airflow_allma.server.run_rows import RunRow, TaskCounts

__all__ = ["epoch", "run_header", "step_states", "tasks_of_steps"]

_STATES: Final[Mapping[str, str]] = {
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


def epoch(time: datetime | None) -> float | None:
    """Return a time in seconds since the epoch."""
    return None if time is None else time.timestamp()


def run_header(dag_id: str, run: RunRow, found: DagFlow) -> dict[str, Any]:
    """Return what identifies a run, and its state."""
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


def step_states(found: DagFlow, counts: Iterable[TaskCounts]) -> dict[str, dict[str, Any]]:
    """Return the state of each step, by step id.

    Args:
        found: the flow.
        counts: the run's task instances.
    """
    by_task: dict[str, list[TaskCounts]] = {}
    for one in counts:
        by_task.setdefault(one.task_id, []).append(one)
    return {
        step: _state(found, step, tasks, [one for task in tasks for one in by_task.get(task, ())])
        for step, tasks in tasks_of_steps(found).items()
    }


def _state(found: DagFlow, step: str, tasks: list[str], counts: list[TaskCounts]) -> dict[str, Any]:
    totals: dict[str, int] = {}
    for one in counts:
        state = _STATES.get(one.state, "none")
        totals[state] = totals.get(state, 0) + one.count
    starts = [one.start for one in counts if one.start is not None]
    ends = [one.end for one in counts if one.end is not None]
    start, end = min(starts, default=None), max(ends, default=None)
    state = _of_fork(found, step, counts) or next((one for one in _SHOWN if one in totals), "none")
    is_over = state not in {"running", "waiting", "queued"}
    return {
        "state": state,
        "counts": totals,
        "start": epoch(start),
        "end": epoch(end) if is_over else None,
        "seconds": (end - start).total_seconds() if is_over and start and end else None,
        "tries": max((one.tries for one in counts), default=0),
        "tasks": [
            {"taskId": task, "mapIndex": -1, "state": _only_state(task, counts)} for task in tasks[:20]
        ],
    }


def _only_state(task: str, counts: list[TaskCounts]) -> str:
    states = {one.state for one in counts if one.task_id == task}
    return next((state for state in _SHOWN if state in {_STATES.get(one, "none") for one in states}), "none")


def _of_fork(found: DagFlow, step: str, counts: list[TaskCounts]) -> str | None:
    """Return the state of a fork: that of its aggregate, once that has one; None for other steps."""
    fork = found.forks.get(step)
    if fork is None:
        return None
    aggregate = fork.task(TaskRole.AGGREGATE)
    states = {_STATES.get(one.state, "none") for one in counts if one.task_id == aggregate}
    ended = states & {"success", "failed", "skipped", "upstream_failed"}
    return next(iter(ended), None)
