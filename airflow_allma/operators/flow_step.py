"""The task of a segment on the main path: one step, or the steps of a loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.base import FlowOperator
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.manual_success import resume_state
from airflow_allma.operators.routing import states_of
from airflow_allma.operators.task_context import TaskContext

if TYPE_CHECKING:
    from airflow_allma.engine import Program, RunInfo, RunState, SegmentResult

__all__ = ["FlowStepOperator"]


class FlowStepOperator(FlowOperator):
    """Runs the flow from the step at which it comes here until it leaves this task's steps.

    It asks the tasks before it whether the run comes here, and is skipped when it does not. Its return value
    is the output of the last step that ran; where the run goes on travels under ``allma_state``.

    Args:
        flow: the flow.
        steps: the ids of the segment's steps, the first names the task.
        after: full ids of the tasks that can lead here.
        begins: whether the flow can begin at one of the steps.
        retried_by_airflow: whether the tries of ``onError.retries`` are tries of this task. They are for a
            task of one step; one of several does them itself, or steps that went well would run again.
        kwargs: as for any operator.
    """

    def __init__(
        self,
        *,
        flow: FlowRef,
        steps: Sequence[str],
        after: Sequence[str] = (),
        begins: bool = False,
        retried_by_airflow: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(flow=flow, step=steps[0], **kwargs)
        self.steps = tuple(steps)
        self.after = tuple(after)
        self.begins = begins
        self.retried_by_airflow = retried_by_airflow

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Run the segment; in the task's own process."""
        from airflow_allma.engine import SegmentStatus
        from airflow_allma.engine.errors import step_error_from

        run = TaskContext(self.flow, context)
        try:
            begin = self.arrive(run)
            ended = run.run(lambda: self._walk(run, begin))
        except AllmaError as error:
            self.broken(run, step_error_from(error).as_dict())
        if ended.status is SegmentStatus.RETRY:
            self.fail(run, ended.error or {}, retry=True)
        if ended.status is SegmentStatus.FAILED:
            self.broken(run, ended.error or {})
        if ended.status is SegmentStatus.SUSPENDED:
            self.broken(run, _cannot_wait(ended))
        self.done(run, ended)
        return run.as_return_value(ended.output)

    async def _walk(self, run: TaskContext, begin: Callable[[], Awaitable[RunState]]) -> SegmentResult:
        from airflow_allma.engine import run_segment

        state = await begin()
        return await run_segment(
            self.steps_around(run),
            state,
            self.run_info(run),
            run.services,
            inside=frozenset(self.steps),
            last_try=run.is_last_try if self.retried_by_airflow else None,
        )

    def arrive(self, run: TaskContext) -> Callable[[], Awaitable[RunState]]:
        """Find out how the run comes here, and give what makes the state to begin with.

        Raises:
            AirflowSkipException: it does not come here.
        """
        state = self.state_before(run)
        if state is None:
            raise AirflowSkipException("The run takes another way.")

        async def begin() -> RunState:
            return state

        return begin

    def state_before(self, run: TaskContext) -> RunState | None:
        """Where the run stands when it comes to this task; None: it does not.

        Args:
            run: the task that asks: this one, or one that comes after.
        """
        from airflow_allma.engine import RunState

        if self.begins and run.entry in self.steps:
            return run.start_state()
        after: Sequence[str] = self.after
        if self.begins:
            # Airflow runs this task although it has skipped those before it, which may have run before.
            states = states_of(run, after) if after else {}
            after = [task for task in after if states.get(task) == "success"]
        if not after:
            return None
        saved = resume_state(run, self.dag, after, self.steps)
        return None if saved is None else RunState.from_dict(saved)

    def steps_around(self, run: TaskContext) -> Program:
        """The steps that the run can come to from here."""
        return run.program

    def run_info(self, run: TaskContext) -> RunInfo:
        """The run, as this task sees it."""
        return run.info

    def done(self, run: TaskContext, ended: SegmentResult) -> None:
        """Push where the run stands, for the tasks that come after."""
        run.save_state(ended.state)

    def broken(self, run: TaskContext, error: dict[str, Any]) -> None:
        """Fail for good."""
        self.fail(run, error)


def _cannot_wait(ended: SegmentResult) -> dict[str, Any]:
    from airflow_allma.exceptions import PermanentStepError

    return PermanentStepError(
        f"Step {ended.next_step} waits for something outside, which tasks of a flow cannot do yet."
    ).as_dict()
