"""Running another flow in the process of the step that starts it: its run, and what becomes of its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.work_budget import begin_step
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.flow_runs import StepStarts, check_flow_depth
from airflow_allma.engine.runner import run_inline, run_segment
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.suspension import SuspendStep, Wait
from airflow_allma.exceptions import (
    ContentBasedRetryableError,
    ParallelBranchExecutionError,
    PermanentStepError,
    StepError,
    StepTimeoutError,
    SubFlowError,
)

__all__ = ["SubFlowRun", "error_of_child", "error_of_other_run"]

_COMPLETED: Final = SegmentStatus.COMPLETED
_LOCATION: Final = ("failedStepInstanceId", "branchId", "itemIndex")
_KINDS: Final[Mapping[str, type[StepError]]] = {
    kind.default_name: kind
    for kind in (ContentBasedRetryableError, ParallelBranchExecutionError, StepTimeoutError)
}


class SubFlowRun:
    """A run of another flow inside of a step.

    Args:
        call: the step's call.
        program: the other flow.
        state: the state in which the run begins or goes on.
        info: the run.
    """

    __slots__ = ("call", "info", "program", "state")

    def __init__(self, call: StepCall, program: FlowProgram, state: RunState, info: RunInfo) -> None:
        self.call = call
        self.program = program
        self.state = state
        self.info = info

    @classmethod
    def begin(
        cls,
        call: StepCall,
        program: FlowProgram,
        payload: Mapping[str, Any],
        starts: StepStarts,
        logs: bool | None = None,
    ) -> SubFlowRun:
        """Return a run that begins with a payload.

        Args:
            call: the step's call.
            program: the flow to run.
            payload: the run's payload.
            starts: what it has in common with other runs of the step.
            logs: whether the run keeps records of its steps; None: as the run around it.

        Raises:
            PermanentStepError: the payload does not match the flow's schema, or the flow is nested too
                deeply.
        """
        flow_id = program.flow.id
        check_flow_depth(call.step_id, flow_id, call.info)
        info = _child_info(call.info, program, starts, starts.key(call.info, call.state), logs=logs)
        try:
            state = program.start_state(payload, info.flow_execution_id)
        except PermanentStepError as error:
            raise PermanentStepError(
                f"Step {call.step_id} cannot run flow {flow_id!r}, version {program.flow.version}. "
                f"{error.message}",
                details={**error.details, "subFlow": _where(info)},
                error_name=error.error_name,
            ) from None
        return cls(call, program, state, info)

    @classmethod
    def resume(cls, call: StepCall, program: FlowProgram) -> SubFlowRun:
        """Return the run that was suspended."""
        saved = call.saved
        info = _child_info(
            call.info,
            program,
            StepStarts.of(call.info, call.step_id),
            saved["flowExecutionId"],
            logs=saved["enableExecutionLogs"],
        )
        return cls(call, program, RunState.from_dict(saved["state"]), info)

    async def run(self) -> dict[str, Any]:
        """Run to the end and return the final context.

        Raises:
            SuspendStep: the run waits for something.
            StepError: it failed, with the error of the step that failed.
        """
        result = await run_segment(self.program, self.state, self.info, self.call.services)
        if result.status is SegmentStatus.SUSPENDED:
            raise SuspendStep(map(self._in_branch, result.waits), self._saved())
        return self._context(result)

    def run_inline(self) -> dict[str, Any]:
        """Do the same if no step of the flow waits for anything.

        Raises:
            NeedsWaiting: a step has to wait after all.
            StepError: the run failed, with the error of the step that failed.
        """
        return self._context(run_inline(self.program, self.state, self.info, self.call.services))

    def _context(self, result: SegmentResult) -> dict[str, Any]:
        # What comes next is the work of the step itself again.
        begin_step(self.call.services.settings.max_step_work, self.call.step_id)
        if result.status is _COMPLETED:
            return result.state.context
        raise error_of_child(result.error or {}, self.info)

    def _saved(self) -> dict[str, Any]:
        flow = self.program.flow
        return {
            "flowDefinitionId": flow.id,
            "flowVersion": str(flow.version),
            "flowExecutionId": self.info.flow_execution_id,
            "enableExecutionLogs": self.info.enable_execution_logs,
            "state": self.state.to_dict(),
        }

    def _in_branch(self, wait: Wait) -> Wait:
        """Return what the run waits for, with the item around the step."""
        info = self.call.info
        if wait.branch_id is not None or info.branch_id is None:
            return wait
        return Wait.from_dict(
            {**wait.to_dict(), "branchId": info.branch_id, "itemIndex": info.item_index or 0}
        )


def _child_info(
    info: RunInfo, program: FlowProgram, starts: StepStarts, key: str, *, logs: bool | None
) -> RunInfo:
    flow = program.flow
    # 32 hexadecimal digits in the form of a UUID, as the ids of other runs are.
    run_id = key if "-" in key else f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:32]}"
    # By position, as there is one for each item of a fork: names take longer.
    return RunInfo(
        flow.id,
        flow.version,
        run_id,
        info.start_time,
        None,  # branch_id
        None,  # item_index
        (*starts.root_keys, run_id),
        info.fork_depth,
        info.enable_execution_logs if logs is None else logs,
        None,  # outer
        starts.parent,
    )


def error_of_child(error: Mapping[str, Any], info: RunInfo) -> StepError:
    """Return the error of a run as the error of the step that started it.

    Args:
        error: the four fields of the error.
        info: the run. Its step, and the item in it, become the details' ``subFlow``; so does a deeper run's.
    """
    return error_of_other_run(error, _where(info))


def error_of_other_run(error: Mapping[str, Any], where: Mapping[str, Any]) -> StepError:
    """Do the same for a run of its own; ``where`` says which run it is."""
    details = dict(error.get("errorDetails") or {})
    location = {name: details.pop(name) for name in _LOCATION if name in details}
    details.setdefault("subFlow", {**where, **location})
    name, message = error.get("errorName", StepError.default_name), error.get("errorMessage", "")
    kind = _KINDS.get(name)
    if kind is None:
        # Whoever can try the step itself again has done so; the flow's own retries are what is left.
        kind = SubFlowError if error.get("isRetryable") else PermanentStepError
    return kind(message, details=details, error_name=name)


def _where(info: RunInfo) -> dict[str, Any]:
    return {
        "flowDefinitionId": info.flow_id,
        "flowDefinitionVersion": info.flow_version,
        "flowExecutionId": info.flow_execution_id,
    }
