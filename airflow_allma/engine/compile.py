"""From a validated flow to a program with the handlers of all step types."""

from __future__ import annotations

from airflow_allma.engine.program import FlowProgram
from airflow_allma.engine.steps import HANDLERS
from airflow_allma.flow import Flow

__all__ = ["compile_flow"]


def compile_flow(flow: Flow) -> FlowProgram:
    """Compile a flow that was validated when it was loaded.

    Raises:
        ExpressionSyntaxError: an expression cannot be parsed.
        KeyError: a step type does not run here (``unsupported_reason`` reports it at load time).
    """
    return FlowProgram(flow, HANDLERS)
