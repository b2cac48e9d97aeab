"""Tasks that were marked as success: the flow continues as if their step had run with an empty output."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.routing import incoming_state, states_of
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull

if TYPE_CHECKING:
    from airflow_allma.engine import RunState, SegmentResult

__all__ = ["ResumableTask", "resume_state", "state_after_skipped_task"]


class ResumableTask(Protocol):
    """A task of the main path, as seen by a task downstream."""

    def state_before(self, current: TaskContext) -> RunState | None:
        """Return the run's state before this task; None if the run does not reach it."""


def resume_state(
    current: TaskContext, dag: Any, upstream: Sequence[str], steps: Collection[str]
) -> dict[str, Any] | None:
    """Return the saved state with which the run reaches one of ``steps``, past tasks marked as success too.

    Args:
        current: the asking task.
        dag: the Dag of the flow.
        upstream: full ids of the tasks that can lead here.
        steps: the steps to which they can lead.

    Raises:
        PermanentStepError: the next step after a marked task is ambiguous.
    """
    return incoming_state(current, upstream, steps) or state_after_skipped_task(current, dag, upstream, steps)


def state_after_skipped_task(
    current: TaskContext, dag: Any, upstream: Sequence[str], steps: Collection[str]
) -> dict[str, Any] | None:
    """Return the state after a successful task that pushed none, like ``resume_state``."""
    states = states_of(current, upstream)
    for task in upstream:
        if states.get(task) != "success" or pull(current.ti, task, Key.STATE) is not None:
            continue
        state: RunState | None = dag.get_task(task).state_before(current)
        if state is None or state.next_step is None:
            continue
        skipped = state.next_step
        try:
            result = current.run(lambda: _skip(current, state))  # noqa: B023 - called at once
        finally:
            LOG.warning(
                "Step %s counts as done, with an empty output: task %s is marked as success and pushed no "
                "state. Clear the task to run it.",
                skipped,
                task,
            )
        own = getattr(dag.get_task(task), "steps", ())
        if result.state.next_step in own:
            raise PermanentStepError(
                f"Task {task} was marked as success, but it runs several steps, and step {skipped} is "
                f"followed by step {result.state.next_step}, which is one of them. Clear the task to run it."
            )
        if result.state.next_step in steps:
            return result.state.to_dict()
    return None


async def _skip(current: TaskContext, state: RunState) -> SegmentResult:
    from airflow_allma.engine import skip_step

    return await skip_step(
        current.program, state, str(state.next_step), info=current.info, services=current.services
    )
