"""Starting a run of another flow without waiting for its end: START_FLOW_EXECUTION, and ASYNC sub-flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_allma.engine.flow_runs import ExecutionKind, RunStarter, StartRequest, execution_key
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.start_input import FlowStart
from airflow_allma.exceptions import PermanentStepError

__all__ = ["StartRun", "require_starter", "start_request"]


class StartRun(AsyncHandler):
    """Starts a run and returns which one, without waiting for it.

    A step that runs again starts the same run, which exists then: so the step counts as one without side
    effects.

    Args:
        read: returns what a call starts.
    """

    def __init__(self, read: Callable[[StepCall], FlowStart]) -> None:
        self._read = read

    async def __call__(self, call: StepCall) -> Any:
        """Start the run.

        Raises:
            PermanentStepError: the flow cannot be started.
            TransientStepError: the same start may succeed later.
        """
        request = start_request(call, self._read(call), ExecutionKind.ASYNC_SUBFLOW)
        started = await require_starter(call).start(request)
        return {
            "startedFlowExecutionId": started.flow_execution_id,
            "dagId": started.dag_id,
            "runId": started.run_id,
            "sqsMessageId": None,
        }


def start_request(call: StepCall, start: FlowStart, kind: ExecutionKind) -> StartRequest:
    """Return the request for the run that a call starts."""
    info = call.info
    logs = start.enable_execution_logs
    if logs is None and kind is ExecutionKind.SYNC_SUBFLOW:
        logs = info.enable_execution_logs
    source = start.trigger_source or "Unknown"
    return StartRequest(
        flow_id=start.flow_id,
        version=start.version,
        payload=start.payload,
        key=execution_key(info, call.step_id, call.state),
        parent=info,
        step_id=call.step_id,
        kind=kind,
        flow_execution_id=start.flow_execution_id,
        trigger_source=f"ParentFlow:{info.flow_execution_id}:{call.step_id} -> {source}",
        enable_execution_logs=logs,
    )


def require_starter(call: StepCall) -> RunStarter:
    """Return what starts runs.

    Raises:
        PermanentStepError: runs cannot be started here.
    """
    if call.services.runs is None:
        raise PermanentStepError(
            f"Step {call.step_id} starts a run of another flow, which is not possible here. Runs can be "
            "started by flows in Airflow and by `airflow-allma run`."
        )
    return call.services.runs
