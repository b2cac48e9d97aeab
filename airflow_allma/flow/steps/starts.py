"""Where runs begin: sub-flows, other runs, and what starts this flow."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from airflow_allma.flow.model_base import Bool, JsonObject, Model, NonEmptyStr
from airflow_allma.flow.steps.step_base import Step, StepType

__all__ = [
    "EmailStartPointStep",
    "ScheduleStartPointStep",
    "StartFlowExecutionStep",
    "StartSubFlowStep",
    "SubFlowAirflowOptions",
    "SubFlowExecutionMode",
]

LATEST = "LATEST_PUBLISHED"


class SubFlowExecutionMode(StrEnum):
    """Whether a step waits for the flow that it starts."""

    SYNC = "SYNC"
    ASYNC = "ASYNC"


class SubFlowAirflowOptions(Model):
    """What a step that runs another flow says about it for Airflow. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    own_run: Annotated[Bool, Field(description="Whether the other flow gets a Dag run of its own.")] = False


class StartSubFlowStep(Step):
    """Runs another flow as a part of this one."""

    step_type: Literal[StepType.START_SUB_FLOW]
    sub_flow_definition_id: Annotated[NonEmptyStr, Field(description="The flow to run.")]
    sub_flow_version: Annotated[str, Field(description="Its version.")] = LATEST
    sub_flow_execution_mode: Annotated[
        SubFlowExecutionMode, Field(description="Wait for its end, or continue at once.")
    ] = SubFlowExecutionMode.SYNC
    input_mappings_to_sub_flow: Annotated[
        dict[str, str], Field(default_factory=dict, description="Dotted path in its payload <- JSONPath.")
    ]
    airflow: Annotated[
        SubFlowAirflowOptions,
        Field(default_factory=SubFlowAirflowOptions, description="The sub-flow's options for Airflow."),
    ]

    @property
    def starts_run(self) -> bool:
        """Whether the other flow gets a run of its own."""
        return self.airflow.own_run or self.sub_flow_execution_mode is SubFlowExecutionMode.ASYNC


class StartFlowExecutionStep(Step):
    """Starts another run. Its fields can also come from the step's input; those of the step win."""

    step_type: Literal[StepType.START_FLOW_EXECUTION]
    flow_definition_id: Annotated[NonEmptyStr | None, Field(description="The flow to start; a template.")] = (
        None
    )
    flow_version: Annotated[str | None, Field(description="Its version; a template.")] = None
    airflow: Annotated[
        SubFlowAirflowOptions,
        Field(default_factory=SubFlowAirflowOptions, description="The other run's options for Airflow."),
    ]

    @property
    def starts_run(self) -> bool:
        """Whether the other flow gets a run of its own."""
        return self.airflow.own_run or self.custom_config.get("sync") is not True


class EmailStartPointStep(Step):
    """A flow starts here when an e-mail arrives."""

    step_type: Literal[StepType.EMAIL_START_POINT]
    email_address: Annotated[NonEmptyStr, Field(description="The recipient's address; a template.")]
    keyword: Annotated[str | None, Field(description="A word that the e-mail must contain.")] = None
    trigger_message_pattern: Annotated[
        str | None, Field(description="Regular expression; its first group becomes triggerPattern.")
    ] = None

    @property
    def is_entry(self) -> bool:
        """Whether the runs that it starts begin here, not at the flow's first step."""
        return bool(self.transitions or self.default_next_step_instance_id)


class ScheduleStartPointStep(Step):
    """A flow starts here when its schedule fires."""

    step_type: Literal[StepType.SCHEDULE_START_POINT]
    schedule_expression: Annotated[NonEmptyStr, Field(description="cron(...) with six fields, or rate(...).")]
    timezone: Annotated[str, Field(description="IANA name of the time zone.")] = "UTC"
    enabled: Annotated[Bool, Field(description="Whether it fires.")] = True
    payload_template: Annotated[
        JsonObject, Field(default_factory=dict, description="The run's payload; can contain templates.")
    ]

    @property
    def is_entry(self) -> bool:
        """Whether the runs that it fires begin here, not at the flow's first step."""
        return bool(self.transitions or self.default_next_step_instance_id)
