"""The task of a segment on the main path: one step, or the steps of a loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.flow_operator import FlowOperator
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.manual_success import resume_state
from airflow_allma.operators.message_runs import start_message_runs
from airflow_allma.operators.routing import states_of
from airflow_allma.operators.run_start import entry_step, start_state
from airflow_allma.operators.run_states import return_value, save_state
from airflow_allma.operators.run_urls import StartedRunLink
from airflow_allma.operators.suspended_task import SuspendableTask, TriggerEnd, Wakeup
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.trace_xcom import push_trace, trace_of
from airflow_allma.operators.try_notes import TryNotes

if TYPE_CHECKING:
    from airflow_allma.engine import Program, RunInfo, RunState, SegmentResult

__all__ = ["FlowStepOperator"]


class FlowStepOperator(FlowOperator):
    """Runs the flow from the step at which it reaches this task until it leaves this task's steps.

    It asks the upstream tasks whether the run reaches it, and is skipped when it does not. Its return value
    is the output of the last step that ran; the run's state is pushed under ``allma_state``.

    Args:
        flow: the flow.
        steps: the ids of the segment's steps; the first one names the task.
        after: full ids of the tasks that can lead here.
        begins: whether the flow can begin at one of the steps.
        retried_by_airflow: whether the retries of ``onError.retries`` are retries of this task. They are
            for a task of one step; a task of several steps does them itself, or steps that succeeded would
            run again.
        links_run: whether the UI shows a link to the run that the task's step starts.
        kwargs: as for any operator.
    """

    forks_around: ClassVar[int] = 0

    def __init__(
        self,
        *,
        flow: FlowRef,
        steps: Sequence[str],
        after: Sequence[str] = (),
        begins: bool = False,
        retried_by_airflow: bool = False,
        links_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(flow=flow, step=steps[0], **kwargs)
        self.steps = tuple(steps)
        self.after = tuple(after)
        self.begins = begins
        self.retried_by_airflow = retried_by_airflow
        if links_run:
            self.operator_extra_links = (StartedRunLink(),)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Run the segment, in the task's own process."""
        current = self.begin(context)
        self.before_steps(current)
        return self._run_in_time(current, None)

    def resume(self, context: Mapping[str, Any], event: Any = None) -> Any:
        """Continue the segment after it was suspended, in a new process of the task.

        Args:
            context: Airflow's context of the task.
            event: why Airflow continues the task; see ``Wakeup``.
        """
        current = self.begin(context)
        self.before_steps(current)
        return self._run_in_time(current, Wakeup(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Continue the segment as Airflow asks for it, also if the task's trigger has failed or timed out.

        Airflow would fail the task then, and ``onError`` of the step would not apply.
        """
        if hasattr(self, next_method):
            return super().resume_execution(next_method, next_kwargs, context)
        return self.resume(context, TriggerEnd.of(next_kwargs or {}))

    def before_steps(self, current: TaskContext) -> None:
        """Do what must be done in each process of the task before its steps; here nothing."""

    def _run_in_time(self, current: TaskContext, wakeup: Wakeup | None) -> Any:
        try:
            return self._run_segment(current, TryNotes(current.context, self.retries or 0), wakeup)
        except AirflowTaskTimeout as error:
            self.on_timeout(current)
            raise error from None

    def _run_segment(self, current: TaskContext, notes: TryNotes, wakeup: Wakeup | None) -> Any:
        from airflow_allma.engine import SegmentStatus
        from airflow_allma.engine.errors import step_error_from

        task = SuspendableTask(current)
        try:
            begin = self.prepare(current)
            if wakeup is None:
                notes.begin_side_effects(self.step, self._unrepeatable(current))
            else:
                task.load(wakeup)
            last_try = self._is_last_try(current, notes)
            result = current.run(lambda: self._run_steps(current, task, begin, last_try))
        except AllmaError as error:
            self.on_failure(current, step_error_from(error).as_dict())
        if result.status is SegmentStatus.SUSPENDED:
            task.suspend(result)
        if self.keeps_trace(current, result):
            push_trace(current, result.state)
        try:
            return self._end(current, notes, result)
        finally:
            # Not before the result is passed on: a try that replaces a lost one needs the events again.
            current.events.forget()

    def _end(self, current: TaskContext, notes: TryNotes, result: SegmentResult) -> Any:
        from airflow_allma.engine import SegmentStatus

        if result.status is SegmentStatus.RETRY:
            failures = notes.add_failure()
            self.fail(current.ti, result.error or {}, retry=True, failures=failures)
        if result.status is SegmentStatus.FAILED:
            self.on_failure(current, result.error or {})
        try:
            returned = return_value(current, result.output)
            self.on_success(current, result, returned)
        except PermanentStepError as error:
            # What the steps have made cannot be passed on.
            self.on_failure(current, error.as_dict())
        return returned

    @property
    def own_runs_at(self) -> int | None:
        """The forks around the task's only step; a task of several steps runs to its end at once."""
        return self.forks_around if self.retried_by_airflow else None

    async def _run_steps(
        self,
        current: TaskContext,
        task: SuspendableTask,
        begin: Callable[[], Awaitable[RunState]],
        last_try: bool | None,
    ) -> SegmentResult:
        from airflow_allma.engine import run_segment

        state = task.restore(await begin(), self.base_context())
        return await run_segment(
            self.program_of(current),
            state,
            self.info_of(current),
            current.services,
            inside=frozenset(self.steps),
            last_try=last_try,
            # A task of one step gives its process back between the calls of a poll.
            stays=not self.retried_by_airflow,
        )

    def _is_last_try(self, current: TaskContext, notes: TryNotes) -> bool | None:
        """Return whether Airflow does not retry the step's own failure; None if this task retries steps."""
        if not self.retried_by_airflow:
            return None
        on_error = self.program_of(current).steps[self.step].model.on_error
        count = on_error.retries.count if on_error and on_error.retries else 0
        return count == 0 or notes.failures() >= count

    def _unrepeatable(self, current: TaskContext) -> tuple[str, ...]:
        """Return the steps that must not run again after this try if it is lost."""
        from airflow_allma.engine import unrepeatable_steps

        if not self.retries or current.settings.retry_lost_steps:
            return ()
        return unrepeatable_steps(self.program_of(current), self.steps, current.flow_ref.flows)

    def prepare(self, current: TaskContext) -> Callable[[], Awaitable[RunState]]:
        """Return a coroutine function that makes the initial state.

        Raises:
            AirflowSkipException: the run does not reach this task, or only starts a run for each message.
            PermanentStepError: a message cannot start a run.
        """
        if self.begins and current.flow.only_starts_others(current.ti.run_id):
            if entry_step(current) in self.steps:
                start_message_runs(current)
            raise AirflowSkipException("This run only starts others.")
        state = self.state_before(current)
        if state is None:
            raise AirflowSkipException("The run takes another path.")

        async def begin() -> RunState:
            return state

        return begin

    def state_before(self, current: TaskContext) -> RunState | None:
        """Return the run's state before this task; None if the run does not reach it.

        Args:
            current: the asking task: this one, or one downstream.
        """
        from airflow_allma.engine import RunState

        if self.begins and entry_step(current) in self.steps:
            return start_state(current)
        after: Sequence[str] = self.after
        if self.begins:
            # Airflow runs this task although it has skipped its upstream tasks, which can have run before.
            states = states_of(current, after) if after else {}
            after = [task for task in after if states.get(task) == "success"]
        if not after:
            return None
        saved = resume_state(current, self.dag, after, self.steps)
        return None if saved is None else RunState.from_dict(saved)

    def base_context(self) -> Mapping[str, Any] | None:
        """Return the context to which a state without one is a journal; None for states with a context."""
        return None

    def program_of(self, current: TaskContext) -> Program:
        """Return the steps that the run can reach from here."""
        return current.program

    def info_of(self, current: TaskContext) -> RunInfo:
        """Return the run as this task's steps see it."""
        return current.info

    def keeps_trace(self, current: TaskContext, result: SegmentResult) -> bool:  # noqa: ARG002
        """Return whether the trace of the task's steps is pushed: it is part of the state if it has one."""
        from airflow_allma.engine import SegmentStatus

        return result.status in {SegmentStatus.FAILED, SegmentStatus.RETRY}

    def on_success(self, current: TaskContext, result: SegmentResult, returned: Any) -> None:  # noqa: ARG002
        """Push the run's state for the tasks downstream, with the trace of the steps.

        Args:
            current: this try.
            result: the result of the segment.
            returned: the task's return value, which Airflow pushes next.
        """
        save_state(current, result.state, trace=trace_of(result.state))

    def on_timeout(self, current: TaskContext) -> None:
        """Push nothing: on the main path a task that ran too long has only failed."""

    def on_failure(self, current: TaskContext, error: dict[str, Any]) -> None:
        """Fail without a retry."""
        self.fail(current.ti, error)
