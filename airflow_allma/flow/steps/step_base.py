"""The fields that every step has, whatever its type."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from airflow_allma.flow.model_base import AnyJson, Bool, Int, JsonObject, Model, NonEmptyStr, Number, shape
from airflow_allma.flow.secret_names import CONNECTION_ID

__all__ = [
    "Checkpoint",
    "ContentRetry",
    "ContextMapping",
    "Delay",
    "DelayPosition",
    "FormatAs",
    "HasConnection",
    "OnError",
    "OutputValidation",
    "Retries",
    "Step",
    "StepType",
    "Transition",
]


class StepType(StrEnum):
    """What a step does."""

    API_CALL = "API_CALL"
    CUSTOM_LAMBDA_INVOKE = "CUSTOM_LAMBDA_INVOKE"
    CUSTOM_LOGIC = "CUSTOM_LOGIC"
    DATA_LOAD = "DATA_LOAD"
    DATA_SAVE = "DATA_SAVE"
    DATA_TRANSFORMATION = "DATA_TRANSFORMATION"
    EMAIL = "EMAIL"
    EMAIL_START_POINT = "EMAIL_START_POINT"
    END_FLOW = "END_FLOW"
    FILE_DOWNLOAD = "FILE_DOWNLOAD"
    LLM_INVOCATION = "LLM_INVOCATION"
    MCP_CALL = "MCP_CALL"
    NO_OP = "NO_OP"
    PARALLEL_FORK_MANAGER = "PARALLEL_FORK_MANAGER"
    POLL_EXTERNAL_API = "POLL_EXTERNAL_API"
    SCHEDULE_START_POINT = "SCHEDULE_START_POINT"
    SNS_PUBLISH = "SNS_PUBLISH"
    SQS_SEND = "SQS_SEND"
    START_FLOW_EXECUTION = "START_FLOW_EXECUTION"
    START_SUB_FLOW = "START_SUB_FLOW"
    WAIT_FOR_EXTERNAL_EVENT = "WAIT_FOR_EXTERNAL_EVENT"


class Retries(Model):
    """How often and at what intervals a failed step is retried as a whole."""

    count: Annotated[Int, Field(ge=0, le=5, description="Retries after the first try.")] = 0
    interval_seconds: Annotated[Int, Field(ge=1, le=300, description="Seconds before the first retry.")] = 5
    backoff_rate: Annotated[
        Number, Field(ge=1, le=5, description="Each interval is the last one times this factor.")
    ] = 2
    error_equals: Annotated[
        tuple[str, ...] | None, Field(description="Only errors with these names are retried; absent: all.")
    ] = None


class ContentRetry(Model):
    """How often a step is retried when its output is not what the flow requires."""

    count: Annotated[Int, Field(ge=1, le=5, description="Retries after the first try.")] = 1
    interval_seconds: Annotated[Int, Field(ge=1, le=300, description="Seconds before the first retry.")] = 5
    backoff_rate: Annotated[
        Number, Field(ge=1, le=5, description="Each interval is the last one times this factor.")
    ] = 2


class OnError(Model):
    """What happens when a step fails."""

    retries: Annotated[Retries | None, Field(description="Retries of the whole step.")] = None
    retry_on_content_error: Annotated[
        ContentRetry | None, Field(description="Retries when the output lacks required content.")
    ] = None
    fallback_step_instance_id: Annotated[
        NonEmptyStr | None, Field(description="The step at which the flow continues when no try succeeded.")
    ] = None
    continue_on_failure: Annotated[
        Bool, Field(description="The error becomes the step's output and the flow continues.")
    ] = False


class OutputValidation(Model):
    """The content that a step's output must have."""

    required_fields: Annotated[
        tuple[str, ...],
        Field(description="JSONPaths into the output that must find a value other than null."),
    ] = ()


class DelayPosition(StrEnum):
    """Whether a delay is before or after the step's work."""

    BEFORE = "before"
    AFTER = "after"


class Delay(Model):
    """A pause: a fixed one, or a random one between two bounds."""

    milliseconds: Annotated[Int | None, Field(gt=0, description="A fixed pause.")] = None
    delay_from: Annotated[Int | None, Field(gt=0, description="Shortest random pause, milliseconds.")] = None
    delay_to: Annotated[Int | None, Field(gt=0, description="Longest random pause, milliseconds.")] = None
    position: Annotated[DelayPosition, Field(description="Before or after the step's work.")] = (
        DelayPosition.AFTER
    )


class Checkpoint(Model):
    """A named milestone that a run has reached once it enters the step."""

    id: Annotated[NonEmptyStr, Field(description="Identifies the milestone.")]
    label: Annotated[NonEmptyStr, Field(description="Display name.")]
    order: Annotated[Int | None, Field(ge=0, description="Position among the milestones.")] = None


class FormatAs(StrEnum):
    """The form in which a template gets a value."""

    RAW = "RAW"
    JSON = "JSON"
    CUSTOM_STRING = "CUSTOM_STRING"


class ContextMapping(Model):
    """One variable of a template."""

    source_json_path: Annotated[str, Field(description="JSONPath into the flow's data.")]
    format_as: Annotated[
        FormatAs, Field(description="The value itself, its JSON, or a string for each item.")
    ] = FormatAs.RAW
    select_fields: Annotated[
        tuple[str, ...] | None, Field(description="Keep only these keys of the object, or of each item.")
    ] = None
    item_template: Annotated[
        str | None,
        Field(description="With CUSTOM_STRING: the template that renders every item of a list."),
    ] = None
    join_separator: Annotated[str, Field(description="Separator of the items.")] = "\n"


class HasConnection(Model):
    """A step that can use an Airflow connection. The loader checks whether flows may name it."""

    connection: Annotated[
        str | None,
        shape(
            "the id of an Airflow connection, written out and without templates, such as `shop_api`",
            lambda value: value is None or (isinstance(value, str) and CONNECTION_ID.fullmatch(value)),
        ),
        Field(description="The id of the Airflow connection that the call uses; no template."),
    ] = None


class Transition(Model):
    """A transition to another step, taken when its condition is true."""

    condition: Annotated[str, Field(description="For example: $.steps_output.check.status == 'ok'")]
    next_step_instance_id: Annotated[NonEmptyStr, Field(description="The next step.")]
    max_transitions: Annotated[
        Int, Field(ge=0, description="How often it can be taken in one run; 0: no limit.")
    ] = 5


class Step(Model):
    """The fields of every step.

    ``step_instance_id`` is always filled; ``output_mappings`` is None for the default, ``{}`` for nothing.
    """

    step_type: Annotated[StepType, Field(description="What the step does.")]
    step_instance_id: Annotated[
        NonEmptyStr, Field(description="The step's id; equals its key in `steps` and can be omitted there.")
    ]
    step_definition_id: Annotated[
        str | None, Field(description="A step definition whose fields this step inherits.")
    ] = None
    display_name: Annotated[str | None, Field(description="Name shown instead of the id.")] = None
    module_identifier: Annotated[str | None, Field(description="The module that does the work.")] = None
    custom_config: Annotated[
        JsonObject, Field(default_factory=dict, description="The module's settings; can contain templates.")
    ]
    input_mappings: Annotated[
        dict[str, str],
        Field(default_factory=dict, description="Dotted path in the step's input <- JSONPath in the data."),
    ]
    literals: Annotated[
        dict[str, AnyJson],
        Field(
            default_factory=dict, description="Dotted path in the step's input <- fixed value or template."
        ),
    ]
    output_mappings: Annotated[
        dict[str, str] | None,
        Field(
            description="JSONPath in the data <- JSONPath in the step's output. Absent: the whole output "
            "goes to $.steps_output.<id>; an empty object: the output is not kept."
        ),
    ] = None
    on_error: Annotated[OnError | None, Field(description="What happens when the step fails.")] = None
    output_validation: Annotated[
        OutputValidation | None, Field(description="What the output must contain.")
    ] = None
    delay: Annotated[Delay | None, Field(description="A pause before or after the step's work.")] = None
    checkpoint: Annotated[Checkpoint | None, Field(description="A milestone that the step marks.")] = None
    force_s3_offload: Annotated[
        Bool, Field(alias="forceS3Offload", description="Always store the output outside of the context.")
    ] = False
    disable_s3_offload: Annotated[
        Bool, Field(alias="disableS3Offload", description="Never store the output outside of the context.")
    ] = False
    transitions: Annotated[
        tuple[Transition, ...],
        Field(description="Checked in order; the first whose condition is true is taken."),
    ] = ()
    default_next_step_instance_id: Annotated[
        NonEmptyStr | None,
        Field(description="The next step when no transition is taken; absent: the path ends."),
    ] = None
    default_next_max_transitions: Annotated[
        Int, Field(ge=0, description="How often the default can be taken in one run; 0: no limit.")
    ] = 5
    position: Annotated[JsonObject | None, Field(description="Position in a visual editor.")] = None
    fill: Annotated[str | None, Field(description="Color in a visual editor.")] = None

    @property
    def label(self) -> str:
        """The display name or, without one, the id."""
        return self.display_name or self.step_instance_id
