"""Tasks that somebody marked as successful: the flow goes on as if their step had run and given nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.routing import incoming_state, states_of
from airflow_allma.operators.task_context import LOG
from airflow_allma.operators.xcoms import Key, pull

if TYPE_CHECKING:
    from airflow_allma.engine import RunState, SegmentResult
    from airflow_allma.operators.task_context import TaskContext

__all__ = ["ResumableTask", "resume_state", "state_after_skipped_task"]


class ResumableTask(Protocol):
    """A task of the main path, as another task sees it that comes after."""

    def state_before(self, run: TaskContext) -> RunState | None:
        """Where the run stood before this task; None: it did not come here."""


def resume_state(
    run: TaskContext, dag: Any, upstream: Sequence[str], steps: Collection[str]
) -> dict[str, Any] | None:
    """The saved state with which the run comes to one of ``steps``, past marked tasks too.

    Args:
        run: the asking task.
        dag: the Dag of the flow.
        upstream: full ids of the tasks that can lead here.
        steps: the steps to which they may lead.

    Raises:
        PermanentStepError: a marked task leaves open where the flow goes on.
    """
    return incoming_state(run, upstream, steps) or state_after_skipped_task(run, dag, upstream, steps)


def state_after_skipped_task(
    run: TaskContext, dag: Any, upstream: Sequence[str], steps: Collection[str]
) -> dict[str, Any] | None:
    """As ``resume_state``, past tasks that are successful and have left no state; None if there is none."""
    states = states_of(run, upstream)
    for task in upstream:
        if states.get(task) != "success" or pull(run.ti, task, Key.STATE) is not None:
            continue
        state: RunState | None = dag.get_task(task).state_before(run)
        if state is None or state.next_step is None:
            continue
        passed = state.next_step
        try:
            ended = run.run(lambda: _pass(run, state))  # noqa: B023 - called at once
        finally:
            LOG.warning(
                "Task %s is marked as successful and has left nothing: step %s counts as done, with an empty "
                "output. Clear the task to run it.",
                task,
                passed,
            )
        own = getattr(dag.get_task(task), "steps", ())
        if ended.state.next_step in own:
            raise PermanentStepError(
                f"Task {task} was marked as successful, but it runs several steps, and after step {passed} "
                f"comes step {ended.state.next_step}, which is one of them. Clear the task to run it."
            )
        if ended.state.next_step in steps:
            return ended.state.to_dict()
    return None


async def _pass(run: TaskContext, state: RunState) -> SegmentResult:
    from airflow_allma.engine import pass_step

    return await pass_step(run.program, state, str(state.next_step), info=run.info, services=run.services)
