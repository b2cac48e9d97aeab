"""The table of step types that run here, and what makes their handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.engine.modules import MODULES, module_problem
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.engine.program import HandlerFactory, Program
from airflow_allma.engine.step_handler import Handler
from airflow_allma.engine.steps.api_call import ApiCall
from airflow_allma.engine.steps.file_download import FileDownload
from airflow_allma.engine.steps.fork_handler import ForkHandler
from airflow_allma.engine.steps.lambda_invoke import LambdaInvoke
from airflow_allma.engine.steps.mcp_call import CallTool
from airflow_allma.engine.steps.module import module_handler
from airflow_allma.engine.steps.own_module import OwnModuleStep
from airflow_allma.engine.steps.poll_api import PollApi
from airflow_allma.engine.steps.send_email import SendEmail
from airflow_allma.engine.steps.send_message import send_message
from airflow_allma.engine.steps.simple import EndFlow, NoOp
from airflow_allma.engine.steps.sub_flow import start_flow_execution, start_sub_flow
from airflow_allma.engine.steps.wait_for_event import WaitForEvent
from airflow_allma.flow import Step, StepType
from airflow_allma.flow.module_ids import OWN_MODULE_TYPES, is_own_module

__all__ = ["HANDLERS", "MODULES", "unsupported_reason"]


def _of_module(make: Callable[[Any], Handler]) -> HandlerFactory:
    """Return a factory for a step whose module can be one of the installation's."""
    return _of_step(lambda step: OwnModuleStep(step) if is_own_module(step.module_identifier) else make(step))


def _of_step(make: Callable[[Any], Handler]) -> HandlerFactory:
    """Return a factory for a handler that needs only its own step, not the steps around it."""

    def factory(step: Any, scope: Program) -> Handler:
        del scope
        return make(step)

    return factory


def _llm_invocation(step: Any, scope: Program) -> Handler:
    # Flows without such steps need none of it.
    from airflow_allma.engine.steps.llm_invocation import LlmInvocation

    return LlmInvocation(step, scope.bundle)


HANDLERS: Final[Mapping[StepType, HandlerFactory]] = MappingProxyType(
    {
        StepType.NO_OP: _of_step(NoOp),
        StepType.END_FLOW: _of_step(EndFlow),
        StepType.SCHEDULE_START_POINT: _of_step(NoOp),
        StepType.EMAIL_START_POINT: _of_step(NoOp),
        StepType.CUSTOM_LAMBDA_INVOKE: _of_step(LambdaInvoke),
        StepType.API_CALL: _of_module(ApiCall),
        StepType.EMAIL: _of_step(SendEmail),
        StepType.FILE_DOWNLOAD: _of_step(FileDownload),
        StepType.CUSTOM_LOGIC: _of_step(OwnModuleStep),
        StepType.DATA_LOAD: _of_module(module_handler),
        StepType.DATA_SAVE: _of_module(module_handler),
        StepType.DATA_TRANSFORMATION: _of_module(module_handler),
        StepType.LLM_INVOCATION: _llm_invocation,
        StepType.MCP_CALL: CallTool,
        StepType.PARALLEL_FORK_MANAGER: ForkHandler,
        StepType.POLL_EXTERNAL_API: _of_step(PollApi),
        StepType.SNS_PUBLISH: _of_step(send_message("system/sns-publish")),
        StepType.SQS_SEND: _of_step(send_message("system/sqs-send")),
        StepType.START_FLOW_EXECUTION: _of_step(start_flow_execution),
        StepType.START_SUB_FLOW: _of_step(start_sub_flow),
        StepType.WAIT_FOR_EXTERNAL_EVENT: _of_step(WaitForEvent),
    }
)
"""Step type -> factory of its handler, called with the step's model and the program that it belongs to."""

_ENTRY_POINTS: Final = OwnModules()
_MODULE_TYPES: Final = frozenset({StepType.DATA_LOAD, StepType.DATA_SAVE, StepType.DATA_TRANSFORMATION})
_NEED_MODULE: Final = _MODULE_TYPES | {StepType.CUSTOM_LOGIC}


def unsupported_reason(step: Step, own_modules: OwnModules = _ENTRY_POINTS) -> tuple[str, str] | None:
    """Return the field and the reason why a step cannot run here, for load-time errors; None if it can.

    Args:
        step: the step.
        own_modules: the modules that the installation adds.
    """
    if step.step_type in OWN_MODULE_TYPES and is_own_module(step.module_identifier):
        problem = own_modules.problem(step.module_identifier or "", MODULES)
        return ("moduleIdentifier", problem) if problem else None
    if step.step_type in _NEED_MODULE:
        problem = module_problem(step.step_type, step.module_identifier or "")
        return ("moduleIdentifier", problem) if problem else None
    return None
