"""The table of step types that run, and their handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.engine.modules import MODULES, module_problem
from airflow_allma.engine.steps.api_call import ApiCall
from airflow_allma.engine.steps.base import AsyncHandler, Handler, InlineHandler, StepCall
from airflow_allma.engine.steps.module import module_handler
from airflow_allma.engine.steps.simple import EndFlow, NoOp
from airflow_allma.flow import ParallelForkManagerStep, Step, StepType

__all__ = [
    "HANDLERS",
    "MODULES",
    "AsyncHandler",
    "Handler",
    "InlineHandler",
    "StepCall",
    "unsupported_reason",
]

HANDLERS: Final[Mapping[StepType, Callable[[Any], Handler]]] = MappingProxyType(
    {
        StepType.NO_OP: NoOp,
        StepType.END_FLOW: EndFlow,
        StepType.SCHEDULE_START_POINT: NoOp,
        StepType.EMAIL_START_POINT: NoOp,
        StepType.API_CALL: ApiCall,
        StepType.DATA_LOAD: module_handler,
        StepType.DATA_SAVE: module_handler,
        StepType.DATA_TRANSFORMATION: module_handler,
    }
)
"""Step type -> what makes its handler from the step's model. Forks are the runner's own."""

_MODULE_TYPES: Final = frozenset({StepType.DATA_LOAD, StepType.DATA_SAVE, StepType.DATA_TRANSFORMATION})


def unsupported_reason(step: Step) -> tuple[str, str] | None:
    """What keeps a step from running here, for load-time errors: field and sentence; None if it runs."""
    if isinstance(step, ParallelForkManagerStep):
        for branch in step.parallel_branches:
            if branch.step_type is not None:
                return "parallelBranches", (
                    f"branch {branch.branch_id!r} is a sub-flow, which is not supported yet; "
                    "give it a first step instead"
                )
        return None
    if step.step_type not in HANDLERS:
        return "stepType", (
            f"step type {step.step_type.value} is not supported yet; take the step out, "
            "or do its work with an API_CALL"
        )
    if step.step_type in _MODULE_TYPES:
        problem = module_problem(step.step_type, step.module_identifier or "")
        return ("moduleIdentifier", problem) if problem else None
    return None
