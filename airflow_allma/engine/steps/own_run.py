"""A flow that runs in a run of its own, for whose end the step waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from airflow_allma.engine.flow_runs import ExecutionKind, StartedRun
from airflow_allma.engine.services import Services
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.start_input import FlowStart
from airflow_allma.engine.steps.start_run import require_starter, start_request
from airflow_allma.engine.sub_flows import error_of_other_run
from airflow_allma.engine.suspension import SuspendReason, SuspendStep, Wait

__all__ = ["OwnRun"]

_SAVED: Final = "ownRun"


class OwnRun(AsyncHandler):
    """Starts a run, suspends until it has ended, and returns its final context.

    Where no run can be waited for, such as in a chunk, the flow runs in the step's process.

    Args:
        read: returns what a call starts.
        in_process: runs the same flow in the step's process.
    """

    falls_back_to_input: ClassVar[bool] = False
    notes_data: ClassVar[bool] = True
    bounds_itself = True
    suspends = True

    def __init__(self, read: Callable[[StepCall], FlowStart], in_process: AsyncHandler) -> None:
        self._read = read
        self._in_process = in_process

    async def __call__(self, call: StepCall) -> Any:
        """Return the run's final context, or suspend until it has ended.

        Raises:
            SuspendStep: it is running.
            PermanentStepError: the flow cannot be started, or the run does not exist any more.
            TransientStepError: the same start may succeed later.
            StepError: it failed, with the error of the step that failed.
        """
        runs, saved = call.services.runs, call.saved
        is_own = _SAVED in saved if saved is not None else runs is not None and runs.can_wait(call.info)
        if not is_own:
            return await self._in_process(call)
        runs = require_starter(call)
        if saved is not None:
            wait = Wait.from_dict(saved[_SAVED])
        else:
            start = self._read(call)
            started = await runs.start(start_request(call, start, ExecutionKind.SYNC_SUBFLOW))
            wait = _wait(call, start, started)
        started = StartedRun(wait.details["flowExecutionId"], wait.details["dagId"], wait.key)
        outcome = await runs.outcome(started)
        if outcome is None:
            raise SuspendStep((wait,), {_SAVED: wait.to_dict()})
        if outcome.error is not None:
            raise error_of_other_run(outcome.error, wait.details)
        return outcome.context

    def runs_inline(self, services: Services) -> bool:
        """Return whether the flow runs in the step's process, and none of its steps waits."""
        return services.runs is None and self._in_process.runs_inline(services)

    def call_inline(self, call: StepCall) -> Any:
        """Run the flow without an event loop."""
        return self._in_process.call_inline(call)


def _wait(call: StepCall, start: FlowStart, started: StartedRun) -> Wait:
    return Wait(
        SuspendReason.RUN,
        started.run_id,
        until=0,
        since=call.services.now(),
        step_id=call.step_id,
        branch_id=call.info.branch_id,
        item_index=call.info.item_index,
        details={
            "flowDefinitionId": start.flow_id,
            "flowExecutionId": started.flow_execution_id,
            "dagId": started.dag_id,
            "runId": started.run_id,
        },
    )
