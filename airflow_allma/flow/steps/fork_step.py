"""The parallel fork: branches for each item, and the aggregation of their results.

Branches contain steps and a step can be a fork, so the union of all step types is here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from airflow_allma.flow.model_base import (
    AnyJson,
    Bool,
    Int,
    Model,
    NonEmptyStr,
    PercentageOrPath,
    WholeOrPath,
)
from airflow_allma.flow.steps.calls import (
    ApiCallStep,
    McpCallStep,
    PollExternalApiStep,
    WaitForExternalEventStep,
)
from airflow_allma.flow.steps.item_batcher import ItemBatcher
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.flow.steps.llm import LlmInvocationStep
from airflow_allma.flow.steps.messages import EmailStep, SnsPublishStep, SqsSendStep
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
    LATEST,
    EmailStartPointStep,
    ScheduleStartPointStep,
    StartFlowExecutionStep,
    StartSubFlowStep,
    SubFlowAirflowOptions,
)
from airflow_allma.flow.steps.step_base import Step, StepType

__all__ = [
    "STEP_MODELS",
    "AggregationConfig",
    "AggregationStrategy",
    "AnyStep",
    "BranchSelection",
    "ForkAirflowOptions",
    "ParallelBranch",
    "ParallelForkManagerStep",
    "ResultWriter",
]


class AggregationStrategy(StrEnum):
    """How the results of all branch runs become one value."""

    COLLECT_ARRAY = "COLLECT_ARRAY"
    MERGE_OBJECTS = "MERGE_OBJECTS"
    SUM = "SUM"
    NONE = "NONE"
    CUSTOM_MODULE = "CUSTOM_MODULE"


class BranchSelection(StrEnum):
    """Which of the branches whose condition is true run for an item."""

    ALL = "all"
    FIRST = "first"


class AggregationConfig(Model):
    """How a fork aggregates its branch runs."""

    strategy: Annotated[AggregationStrategy, Field(description="How results become one value.")] = (
        AggregationStrategy.COLLECT_ARRAY
    )
    data_path: Annotated[
        str | None, Field(description="JSONPath in a branch's context; absent: the branch's output.")
    ] = None
    custom_module_identifier: Annotated[
        NonEmptyStr | None, Field(description="With CUSTOM_MODULE: import path of a Python callable.")
    ] = None
    fail_on_branch_error: Annotated[
        Bool, Field(description="Whether a failed branch run fails the step.")
    ] = True
    max_concurrency: Annotated[
        WholeOrPath,
        Field(description="Maximum number of concurrent branch runs, or a JSONPath to it; 0: no limit."),
    ] = 0
    tolerated_failure_percentage: Annotated[
        PercentageOrPath | None,
        Field(description="The step fails when a higher percentage of branch runs failed."),
    ] = None
    tolerated_failure_count: Annotated[
        WholeOrPath | None, Field(description="The step fails when more branch runs failed.")
    ] = None


class ParallelBranch(Model):
    """One branch: the id of its first step, or a sub-flow."""

    branch_id: Annotated[NonEmptyStr, Field(description="Id of the branch, unique in its fork.")]
    step_instance_id: Annotated[NonEmptyStr | None, Field(description="The branch's first step.")] = None
    start_step_instance_id: Annotated[
        NonEmptyStr | None, Field(description="The same as stepInstanceId.")
    ] = None
    start_step: Annotated[NonEmptyStr | None, Field(description="The same as stepInstanceId.")] = None
    steps: Annotated[
        dict[str, AnyStep] | None,
        Field(description="The branch's own steps, a map or a list; absent: those around it."),
    ] = None
    condition: Annotated[
        str | None,
        Field(description="The branch runs for the items for which this is true; it sees currentItem."),
    ] = None
    input_mappings: Annotated[
        dict[str, str], Field(default_factory=dict, description="As in a step; fills the branch's context.")
    ]
    literals: Annotated[
        dict[str, AnyJson],
        Field(default_factory=dict, description="As in a step; fills the branch's context."),
    ]
    step_type: Annotated[
        Literal[StepType.START_SUB_FLOW] | None, Field(description="Makes the branch a sub-flow.")
    ] = None
    sub_flow_definition_id: Annotated[
        NonEmptyStr | None, Field(description="The flow that runs as the branch.")
    ] = None
    sub_flow_version: Annotated[str | None, Field(description="Its version; absent: the published one.")] = (
        None
    )
    input_mappings_to_sub_flow: Annotated[
        dict[str, str], Field(default_factory=dict, description="Dotted path in its payload <- JSONPath.")
    ]
    airflow: Annotated[
        SubFlowAirflowOptions,
        Field(default_factory=SubFlowAirflowOptions, description="The sub-flow's options for Airflow."),
    ]

    @property
    def start(self) -> str | None:
        """The id of the first step, from whichever field names it; that of a sub-flow is the branch's."""
        if self.sub_flow is not None:
            return self.branch_id
        return self.step_instance_id or self.start_step_instance_id or self.start_step

    @cached_property
    def sub_flow(self) -> StartSubFlowStep | None:
        """The step that runs the branch's sub-flow; None if the branch is not one.

        Without ``inputMappingsToSubFlow``, the branch's mappings and literals are the sub-flow's payload;
        with them, they fill the branch's context, as in any branch.
        """
        if self.step_type is None or self.sub_flow_definition_id is None:
            return None
        fills_context = bool(self.input_mappings_to_sub_flow)
        return StartSubFlowStep(
            step_type=self.step_type,
            step_instance_id=self.branch_id,
            sub_flow_definition_id=self.sub_flow_definition_id,
            sub_flow_version=self.sub_flow_version or LATEST,
            input_mappings_to_sub_flow=self.input_mappings_to_sub_flow,
            input_mappings={} if fills_context else self.input_mappings,
            literals={} if fills_context else self.literals,
            airflow=self.airflow,
        )

    @cached_property
    def own_steps(self) -> Mapping[str, Step] | None:
        """The branch's own steps: those it has, or the one that runs its sub-flow; None for those around."""
        return self.steps if self.sub_flow is None else {self.branch_id: self.sub_flow}


class ForkAirflowOptions(Model):
    """A fork's options for its mapped tasks. None: as the flow's other tasks.

    Unknown keys are errors.
    """

    model_config = ConfigDict(extra="forbid")

    pool: Annotated[NonEmptyStr | None, Field(description="Pool of the fork's mapped tasks.")] = None
    queue: Annotated[NonEmptyStr | None, Field(description="Queue of the fork's mapped tasks.")] = None
    priority_weight: Annotated[Int | None, Field(description="Priority of the fork's mapped tasks.")] = None


class ResultWriter(Model):
    """Where a fork writes the results of its branch runs, beside ``aggregatedData``."""

    location: Annotated[
        NonEmptyStr,
        Field(
            description="s3://bucket/prefix; the files are below it, in a folder of the Dag, run and step."
        ),
    ]


class ParallelForkManagerStep(Step):
    """Runs branches for each item and aggregates their results as ``{aggregatedData}``."""

    step_type: Literal[StepType.PARALLEL_FORK_MANAGER]
    items_path: Annotated[
        str | None, Field(description="JSONPath to the items, or to a pointer to them.")
    ] = None
    item_reader: Annotated[
        ItemReader,
        Field(default_factory=ItemReader, description="How items that are in objects are read."),
    ]
    item_batcher: Annotated[
        ItemBatcher | None,
        Field(description="Puts several items into one branch run; absent: each has its own."),
    ] = None
    parallel_branches: Annotated[
        tuple[ParallelBranch, ...], Field(description="The branches that run for each item.")
    ] = ()
    aggregation_config: Annotated[
        AggregationConfig,
        Field(default_factory=AggregationConfig, description="How the results are aggregated."),
    ]
    result_writer: Annotated[
        ResultWriter | None,
        Field(description="Writes what succeeded and what failed to files; absent: nothing is written."),
    ] = None
    branch_selection: Annotated[
        BranchSelection,
        Field(description="Whether all branches whose condition is true run, or only the first."),
    ] = BranchSelection.ALL
    item_label_path: Annotated[
        str | None, Field(description="JSONPath in an item to its name in the UI.")
    ] = None
    airflow: Annotated[
        ForkAirflowOptions,
        Field(default_factory=ForkAirflowOptions, description="The fork's options for Airflow."),
    ]

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if self.item_batcher is not None and self.result_writer is not None:
            message = "`itemBatcher` and `resultWriter` do not work together; remove one of the two"
            raise PydanticCustomError("batches_with_files", message)
        return self


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

STEP_MODELS: dict[StepType, type[Step]] = {
    get_args(model.model_fields["step_type"].annotation)[0]: model for model in get_args(get_args(AnyStep)[0])
}
"""Step type -> its model."""

# A branch contains steps, and a fork among them contains branches: only now are both defined.
ParallelBranch.model_rebuild()
ParallelForkManagerStep.model_rebuild()
