"""START_SUB_FLOW, and other steps that wait for a flow: it runs in this process, as a part of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from airflow_allma.common.json_types import type_name
from airflow_allma.engine.flow_library import FlowLibrary
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.flow_runs import StepStarts
from airflow_allma.engine.mappings import InputPlan
from airflow_allma.engine.services import Services
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.own_run import OwnRun
from airflow_allma.engine.steps.start_input import FlowStart, StartInput, require_version
from airflow_allma.engine.steps.start_run import StartRun
from airflow_allma.engine.sub_flows import SubFlowRun
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions.pointer_access import resolve_pointer
from airflow_allma.flow import StartFlowExecutionStep, StartSubFlowStep, SubFlowExecutionMode

__all__ = ["RunSubFlow", "SubFlowInput", "start_flow_execution", "start_sub_flow"]

_PAYLOAD: Final = "initialContextData"
_VERSION: Final = "flowVersion"


class RunSubFlow(AsyncHandler):
    """Runs a flow in this process and returns its final context.

    The steps of the flow have time limits and retries of their own.

    Args:
        read: returns what a call runs.
        fixed: the flow and its version, if both are known before a call.
    """

    keeps_input: ClassVar[bool] = True
    falls_back_to_input: ClassVar[bool] = False
    notes_data: ClassVar[bool] = True
    bounds_itself = True
    suspends = True

    def __init__(self, read: Callable[[StepCall], FlowStart], fixed: tuple[str, str] | None = None) -> None:
        self._read = read
        self._fixed = fixed
        self._starts: StepStarts | None = None

    async def __call__(self, call: StepCall) -> Any:
        """Run the flow, or go on with it.

        Raises:
            SuspendStep: the flow waits for something.
            StepError: it cannot run, or failed.
        """
        if call.saved is None:
            return await self._begin(call).run()
        # The version that began also ends, whatever was published since.
        program = _program(call.services, call.saved["flowDefinitionId"], call.saved["flowVersion"])
        return await SubFlowRun.resume(call, program).run()

    @property
    def is_fixed(self) -> bool:
        """Whether the flow and its version are known before a call."""
        return self._fixed is not None

    def known_program(self, flows: FlowLibrary | None) -> FlowProgram | None:
        """Return the flow if it is known before a call; None also if it cannot run: the step then fails."""
        if self._fixed is None or flows is None:
            return None
        try:
            program: FlowProgram = flows.program(*self._fixed)
        except PermanentStepError:
            return None
        return program

    def runs_inline(self, services: Services) -> bool:
        """Return whether the flow is known before a call, and none of its steps waits."""
        program = self.known_program(services.flows)
        return program is not None and program.runs_inline(services)

    def call_inline(self, call: StepCall) -> Any:
        """Run the flow without an event loop."""
        return self._begin(call).run_inline()

    def _begin(self, call: StepCall) -> SubFlowRun:
        start = self._read(call)
        program = _program(call.services, start.flow_id, start.version)
        starts = self._starts
        if starts is None or not starts.includes(call.info):
            starts = self._starts = StepStarts.of(call.info, call.step_id)
        return SubFlowRun.begin(call, program, start.payload, starts, start.enable_execution_logs)


def _program(services: Services, flow_id: str, version: str) -> FlowProgram:
    if services.flows is None:
        raise PermanentStepError(
            f"Flow {flow_id!r} cannot be run as a sub-flow: this flow was loaded without a folder of flows."
        )
    program: FlowProgram = services.flows.program(flow_id, version)
    return program


class SubFlowInput:
    """Reads what a START_SUB_FLOW step passes to its flow: what it maps to it, or else its own input."""

    def __init__(self, step: StartSubFlowStep) -> None:
        self._names = (step.sub_flow_definition_id, require_version(step.sub_flow_version))
        # `initialContextData.x` and `x` are the same place in the payload.
        mappings = {
            target.removeprefix(f"{_PAYLOAD}."): source
            for target, source in step.input_mappings_to_sub_flow.items()
        }
        self._plan = InputPlan(mappings, {}, shares=True) if mappings else None

    @property
    def names(self) -> tuple[str, str]:
        """The flow and its version."""
        return self._names

    def read(self, call: StepCall) -> FlowStart:
        """Return what this call runs.

        Raises:
            PermanentStepError: the payload is not an object.
            PointerNotLoaded: a pointer has to be loaded first.
        """
        values = call.input
        if self._plan is not None:
            log = call.services.log
            values = self._plan.build(call.context, call.info, call.load, log, call.step_id, call.state)
        if _PAYLOAD in values:
            whole = resolve_pointer(values.pop(_PAYLOAD), call.load)
            if not isinstance(whole, dict):
                raise PermanentStepError(
                    f"Step {call.step_id}: `{_PAYLOAD}` must be an object; it is {type_name(whole)}."
                )
            values = {**values, **whole}
        return FlowStart(*self._names, values)


def start_sub_flow(step: StartSubFlowStep) -> AsyncHandler:
    """Return the handler of a START_SUB_FLOW step."""
    reader = SubFlowInput(step)
    if step.sub_flow_execution_mode is SubFlowExecutionMode.ASYNC:
        return StartRun(reader.read)
    return _waiting(step, reader.read, reader.names)


def start_flow_execution(step: StartFlowExecutionStep) -> AsyncHandler:
    """Return the handler of a START_FLOW_EXECUTION step."""
    read = StartInput(step).read
    return (
        _waiting(step, read, _fixed_names(step)) if step.custom_config.get("sync") is True else StartRun(read)
    )


def _waiting(
    step: StartFlowExecutionStep | StartSubFlowStep,
    read: Callable[[StepCall], FlowStart],
    fixed: tuple[str, str] | None,
) -> AsyncHandler:
    in_process = RunSubFlow(read, fixed)
    return OwnRun(read, in_process) if step.airflow.own_run else in_process


def _fixed_names(step: StartFlowExecutionStep) -> tuple[str, str] | None:
    """Return the flow and its version if they are known before the step runs."""
    flow_id, version = step.flow_definition_id, step.flow_version
    if not flow_id or "{{" in f"{flow_id}{version}":
        return None
    given = (step.custom_config, step.input_mappings, step.literals)
    if version is None and any(_VERSION in names for names in given):
        return None
    return flow_id, require_version(version)
