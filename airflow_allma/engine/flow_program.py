"""A whole flow, compiled, and the state in which a run of it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_allma.engine.payloads import validate_payload
from airflow_allma.engine.program import HandlerFactory, Program
from airflow_allma.engine.state import RunState
from airflow_allma.expressions import compile_config
from airflow_allma.flow import EmailStartPointStep, Flow, ScheduleStartPointStep, StepType
from airflow_allma.flow.mail_address import mail_address

__all__ = ["FlowProgram"]


class FlowProgram(Program):
    """A whole flow, compiled.

    Attributes:
        flow: the flow as written.
    """

    def __init__(self, flow: Flow, handlers: Mapping[StepType, HandlerFactory]) -> None:
        super().__init__(flow.steps, flow.start_step_instance_id, handlers, bundle=flow.bundle)
        self.flow = flow

    def start_state(
        self,
        payload: Mapping[str, Any],
        flow_execution_id: str,
        start_point: ScheduleStartPointStep | EmailStartPointStep | None = None,
        events: Sequence[Mapping[str, Any]] = (),
    ) -> RunState:
        """Return the state in which a run begins.

        Args:
            payload: the run's payload, an object.
            flow_execution_id: this run's id.
            start_point: the start point that triggered the run, which ``triggerSource`` names. The
                ``payloadTemplate`` of one with a schedule makes the payload, which ``payload`` overrides.
            events: the asset events that triggered the run; they become ``assetEvents`` of the payload.

        Raises:
            PermanentStepError: the payload does not match the flow's ``airflow.inputSchema``.
            ExpressionEvaluationError: the ``payloadTemplate`` cannot be rendered.
        """
        variables = self.flow.flow_variables
        if start_point is None:
            payload = validate_payload(self.flow, payload)
            if events:
                payload = {"assetEvents": list(events), **payload}
        elif isinstance(start_point, EmailStartPointStep):
            address = mail_address(start_point.email_address, variables) or start_point.email_address
            payload = {"triggerSource": f"EmailTrigger:{address}", **validate_payload(self.flow, payload)}
        else:
            root = {"flow_variables": {**variables, "flowExecutionId": flow_execution_id}}
            rendered = compile_config(start_point.payload_template).render(root)
            source = {"triggerSource": f"ScheduleTrigger:{start_point.step_instance_id}"}
            payload = {**source, **validate_payload(self.flow, {**rendered, **payload})}
        return RunState.start(self.entry(start_point), payload, variables, flow_execution_id)

    def entry(self, start_point: ScheduleStartPointStep | EmailStartPointStep | None = None) -> str:
        """Return the step at which a run begins; ``start_point`` is the one that triggered it, if any."""
        if start_point is None or not start_point.is_entry:
            return self.start
        return start_point.step_instance_id
