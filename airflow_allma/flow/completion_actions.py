"""What a flow does when a run has ended: ``onCompletionActions``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from airflow_allma.flow.model_base import HttpMethod, JsonObject
from airflow_allma.flow.steps import DataSaveStep, StepType
from airflow_allma.flow.steps.step_base import HasConnection

__all__ = ["CompletionAction", "CompletionActionType", "ExecuteOnStatus", "action_name", "data_save_step"]


class CompletionActionType(StrEnum):
    """What to do when a run ends."""

    LOG_ONLY = "LOG_ONLY"
    API_CALL = "API_CALL"
    SNS_SEND = "SNS_SEND"
    SQS_SEND = "SQS_SEND"
    CUSTOM_LAMBDA_INVOKE = "CUSTOM_LAMBDA_INVOKE"
    DATA_SAVE = "DATA_SAVE"


class ExecuteOnStatus(StrEnum):
    """The final states of a run after which an action is taken."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ANY = "ANY"


class CompletionAction(HasConnection):
    """Something to do when a run has ended; its failure does not change the run's state."""

    action_type: Annotated[CompletionActionType, Field(description="What to do.")]
    target: Annotated[
        str | None, Field(description="URL, ARN or queue, no template; not for LOG_ONLY and DATA_SAVE.")
    ] = None
    execute_on_status: Annotated[
        ExecuteOnStatus, Field(description="Final states of a run after which the action is taken.")
    ] = ExecuteOnStatus.COMPLETED
    condition: Annotated[
        str | None, Field(description="Condition; the action is taken only if it is true.")
    ] = None
    payload_template: Annotated[
        dict[str, str], Field(default_factory=dict, description="Name in the payload <- JSONPath.")
    ]
    api_http_method: Annotated[HttpMethod | None, Field(description="For API_CALL.")] = None
    message_attributes_template: Annotated[
        dict[str, str],
        Field(default_factory=dict, description="For SNS_SEND and SQS_SEND: attribute <- JSONPath."),
    ]
    module_identifier: Annotated[str | None, Field(description="For DATA_SAVE.")] = None
    custom_config: Annotated[
        JsonObject, Field(default_factory=dict, description="For DATA_SAVE; can contain templates.")
    ]


def action_name(index: int) -> str:
    """Return what logs and errors call an action, where a step has its id."""
    return f"onCompletionActions[{index}]"


def data_save_step(action: CompletionAction, index: int) -> DataSaveStep:
    """Return the step that does the work of a DATA_SAVE action.

    Args:
        action: the action, which names a module.
        index: its index in the flow.
    """
    return DataSaveStep(
        step_type=StepType.DATA_SAVE,
        step_instance_id=action_name(index),
        module_identifier=action.module_identifier or "",
        custom_config=action.custom_config,
    )
