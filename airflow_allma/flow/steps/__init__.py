"""One model for each step type, and the union that tells them apart by ``stepType``."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from airflow_allma.flow.steps.calls import (
    ApiCallDefinition,
    ApiCallStep,
    ApiUrlTemplate,
    ExitConditions,
    McpCallStep,
    PollExternalApiStep,
    PollingConfig,
    WaitForExternalEventStep,
)
from airflow_allma.flow.steps.common import (
    Checkpoint,
    ContentRetry,
    ContextMapping,
    Delay,
    DelayPosition,
    FormatAs,
    OnError,
    OutputValidation,
    Retries,
    Step,
    StepType,
    Transition,
)
from airflow_allma.flow.steps.fork import (
    AggregationConfig,
    AggregationStrategy,
    BranchSelection,
    ParallelBranch,
    ParallelForkManagerStep,
)
from airflow_allma.flow.steps.llm import (
    InferenceParameters,
    LlmFallback,
    LlmInvocationStep,
    LlmTool,
    MediaAttachment,
    SecurityValidatorConfig,
)
from airflow_allma.flow.steps.messages import (
    EmailAttachment,
    EmailStep,
    SnsPublishStep,
    SqsSendStep,
)
from airflow_allma.flow.steps.modules import (
    CustomLambdaInvokeStep,
    CustomLogicStep,
    DataLoadStep,
    DataSaveStep,
    DataTransformationStep,
    EndFlowStep,
    FileDownloadStep,
    NoOpStep,
)
from airflow_allma.flow.steps.starts import (
    EmailStartPointStep,
    ScheduleStartPointStep,
    StartFlowExecutionStep,
    StartSubFlowStep,
    SubFlowExecutionMode,
)

__all__ = [
    "STEP_MODELS",
    "AggregationConfig",
    "AggregationStrategy",
    "AnyStep",
    "ApiCallDefinition",
    "ApiCallStep",
    "ApiUrlTemplate",
    "BranchSelection",
    "Checkpoint",
    "ContentRetry",
    "ContextMapping",
    "CustomLambdaInvokeStep",
    "CustomLogicStep",
    "DataLoadStep",
    "DataSaveStep",
    "DataTransformationStep",
    "Delay",
    "DelayPosition",
    "EmailAttachment",
    "EmailStartPointStep",
    "EmailStep",
    "EndFlowStep",
    "ExitConditions",
    "FileDownloadStep",
    "FormatAs",
    "InferenceParameters",
    "LlmFallback",
    "LlmInvocationStep",
    "LlmTool",
    "McpCallStep",
    "MediaAttachment",
    "NoOpStep",
    "OnError",
    "OutputValidation",
    "ParallelBranch",
    "ParallelForkManagerStep",
    "PollExternalApiStep",
    "PollingConfig",
    "Retries",
    "ScheduleStartPointStep",
    "SecurityValidatorConfig",
    "SnsPublishStep",
    "SqsSendStep",
    "StartFlowExecutionStep",
    "StartSubFlowStep",
    "Step",
    "StepType",
    "SubFlowExecutionMode",
    "Transition",
    "WaitForExternalEventStep",
]

AnyStep = Annotated[
    ApiCallStep
    | CustomLambdaInvokeStep
    | CustomLogicStep
    | DataLoadStep
    | DataSaveStep
    | DataTransformationStep
    | EmailStartPointStep
    | EmailStep
    | EndFlowStep
    | FileDownloadStep
    | LlmInvocationStep
    | McpCallStep
    | NoOpStep
    | ParallelForkManagerStep
    | PollExternalApiStep
    | ScheduleStartPointStep
    | SnsPublishStep
    | SqsSendStep
    | StartFlowExecutionStep
    | StartSubFlowStep
    | WaitForExternalEventStep,
    Field(discriminator="step_type"),
]

# A branch holds steps and a step may be a fork that holds branches: the circle closes here.
ParallelBranch.model_rebuild(_types_namespace={"AnyStep": AnyStep})
ParallelForkManagerStep.model_rebuild(_types_namespace={"AnyStep": AnyStep})

STEP_MODELS: dict[StepType, type[Step]] = {
    get_args(model.model_fields["step_type"].annotation)[0]: model for model in get_args(get_args(AnyStep)[0])
}
"""Step type -> its model."""
