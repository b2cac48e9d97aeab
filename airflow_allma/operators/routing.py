"""Who comes next: every task asks the tasks before it whether the run goes on with one of its own steps.

Airflow's own branching skips nothing inside mapped groups, so each task decides for itself, everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_allma.operators.xcoms import NOT_MAPPED

if TYPE_CHECKING:
    from airflow_allma.operators.task_context import TaskContext

__all__ = ["incoming_state", "states_of"]


def incoming_state(
    run: TaskContext, upstream: Sequence[str], steps: Collection[str], map_index: int = NOT_MAPPED
) -> dict[str, Any] | None:
    """The saved state with which the run comes to one of ``steps``.

    Args:
        run: the asking task.
        upstream: full ids of the tasks that can lead here.
        steps: the steps of the asking task.
        map_index: the index that both have, inside a mapped group.

    Returns:
        The state; None when the run goes elsewhere and the task is to be skipped.
    """
    asked: Sequence[str] = upstream
    if len(upstream) > 1:
        # A task that was cleared and is skipped this time, without a process of its own, still has the XComs
        # of the time before. With one upstream Airflow itself looks at its state.
        states = states_of(run, upstream, map_index)
        asked = [task for task in upstream if states.get(task) == "success"]
    for task in asked:
        saved = run.saved_state(task, map_index, only_if=steps)
        if saved is not None:
            return saved
    return None


def states_of(
    run: TaskContext, tasks: Sequence[str], map_index: int = NOT_MAPPED
) -> Mapping[str, str | None]:
    """Task id -> state, of one map index, in one call."""
    found = run.task_states(tasks, map_index)
    suffix = "" if map_index == NOT_MAPPED else f"_{map_index}"
    return {task: found.get(f"{task}{suffix}") for task in tasks}
