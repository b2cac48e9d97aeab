"""The choice of the next step: every task asks its upstream tasks whether the run continues with its steps.

Airflow's own branching skips nothing inside mapped groups, so each task decides for itself, everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_allma.compat import NOT_MAPPED, instance_key, task_states
from airflow_allma.operators.run_states import load_state
from airflow_allma.operators.task_context import TaskContext

__all__ = ["incoming_state", "states_of", "succeeded"]


def incoming_state(
    current: TaskContext, upstream: Sequence[str], steps: Collection[str], map_index: int = NOT_MAPPED
) -> dict[str, Any] | None:
    """Return the saved state with which the run reaches one of ``steps``.

    Args:
        current: the asking task.
        upstream: full ids of the tasks that can lead here.
        steps: the steps of the asking task.
        map_index: the index that both have, inside a mapped group.

    Returns:
        The state; None when the run continues elsewhere and the task is to be skipped.
    """
    for task in succeeded(current, upstream, map_index):
        saved = load_state(current, task, map_index, only_if=steps)
        if saved is not None:
            return saved
    return None


def succeeded(current: TaskContext, upstream: Sequence[str], map_index: int = NOT_MAPPED) -> Sequence[str]:
    """Return the tasks from which the run can have come, among all that lead to a task that runs."""
    if len(upstream) == 1:
        # Airflow itself has looked at its state.
        return upstream
    # A task that was cleared and is skipped this time, without a process of its own, still has the XComs of
    # its earlier run.
    states = states_of(current, upstream, map_index)
    return [task for task in upstream if states.get(task) == "success"]


def states_of(
    current: TaskContext, tasks: Sequence[str], map_index: int = NOT_MAPPED
) -> Mapping[str, str | None]:
    """Return task id -> state for one map index, with one call."""
    states = task_states(current.ti, tasks, map_index)
    return {task: states.get(instance_key(task, map_index)) for task in tasks}
