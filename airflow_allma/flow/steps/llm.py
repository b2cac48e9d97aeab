"""The call of a language model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_allma.flow.model_base import (
    NAME_PATTERN,
    AnyJson,
    Int,
    JsonObject,
    Model,
    NonEmptyStr,
    Number,
    shape,
)
from airflow_allma.flow.steps.step_base import ContextMapping, Step, StepType

__all__ = [
    "InferenceParameters",
    "LlmFallback",
    "LlmInvocationStep",
    "LlmProvider",
    "LlmTool",
    "LlmToolType",
    "MediaAttachment",
    "SecurityValidatorConfig",
    "SemanticCheck",
]


class LlmProvider(StrEnum):
    """Who runs a model."""

    GEMINI = "GEMINI"
    ANTHROPIC = "ANTHROPIC"
    OPENAI = "OPENAI"
    AWS_BEDROCK = "AWS_BEDROCK"
    CUSTOM_LAMBDA = "CUSTOM_LAMBDA"


class LlmToolType(StrEnum):
    """The kind of a model's tool."""

    FUNCTION = "function"
    GOOGLE_SEARCH = "google_search"
    CODE_EXECUTION = "code_execution"
    WEB_SEARCH = "web_search"


def _is_provider(value: Any) -> bool:
    return isinstance(value, str) and (value in set(LlmProvider) or "{{" in value or value.startswith("$."))


def _is_tool_choice(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("type") == "function" and isinstance(value.get("name"), str)
    return value in {None, "auto", "none", "required"} if isinstance(value, str | None) else False


Provider = Annotated[
    str,
    shape(
        "GEMINI, ANTHROPIC, OPENAI, AWS_BEDROCK, CUSTOM_LAMBDA or a template that yields one", _is_provider
    ),
    Field(description="Who runs the model; may be a template."),
]
ToolChoice = Annotated[
    str | JsonObject | None,
    shape('"auto", "none", "required" or {"type": "function", "name": ...}', _is_tool_choice),
    Field(description="Whether the model may, must or must not use its tools."),
]


class LlmTool(Model):
    """A tool that a model may use."""

    type: Annotated[
        LlmToolType, Field(description="A function of the flow's own, or a tool of the provider.")
    ]
    name: Annotated[str | None, Field(pattern=NAME_PATTERN, description="Of a function: its name.")] = None
    description: Annotated[NonEmptyStr | None, Field(description="Of a function: what the model reads.")] = (
        None
    )
    parameters: Annotated[AnyJson, Field(description="Of a function: JSON Schema of its arguments.")] = None
    config: Annotated[JsonObject | None, Field(description="Settings of a provider's tool.")] = None


class MediaAttachment(Model):
    """A picture or a document for the model: exactly one of the three sources."""

    s3_pointer: Annotated[JsonObject | None, Field(alias="s3Pointer", description="An S3 object.")] = None
    url: Annotated[str | None, Field(description="Where to fetch it.")] = None
    base64: Annotated[str | None, Field(description="The bytes themselves.")] = None
    mime_type: Annotated[str | None, Field(description="What it is; needed with base64.")] = None


class InferenceParameters(Model):
    """How the model answers; what is absent comes from the provider's defaults."""

    temperature: Annotated[Number | None, Field(ge=0, le=2, description="0 to 2.")] = None
    max_output_tokens: Annotated[Int | None, Field(gt=0, description="Longest answer, in tokens.")] = None
    top_p: Annotated[Number | None, Field(ge=0, le=1, description="0 to 1.")] = None
    top_k: Annotated[Int | None, Field(gt=0, description="Tokens to choose from.")] = None
    seed: Annotated[Int | None, Field(description="For answers that repeat.")] = None


class LlmFallback(Model):
    """A model that is tried when those before it failed."""

    llm_provider: Provider
    model_id: Annotated[NonEmptyStr, Field(description="The model; may be a template.")]
    inference_parameters: Annotated[
        InferenceParameters | None, Field(description="Instead of the step's.")
    ] = None
    custom_config: Annotated[JsonObject | None, Field(description="Instead of the step's.")] = None
    tools: Annotated[tuple[LlmTool, ...] | None, Field(description="Tools of this model.")] = None
    tools_path: Annotated[str | None, Field(description="JSONPath to such a list.")] = None
    tool_choice: ToolChoice = None


class SemanticCheck(Model):
    """Rejects an answer that is too similar to the prompt."""

    similarity_threshold: Annotated[Number, Field(ge=0.8, le=1, description="0.8 to 1.")]


class SecurityValidatorConfig(Model):
    """What an answer must not contain."""

    forbidden_strings: Annotated[
        tuple[str, ...] | None, Field(description="Strings that must not occur, in upper or lower case.")
    ] = None
    semantic_check: Annotated[SemanticCheck | None, Field(description="Similarity to the prompt.")] = None


class LlmInvocationStep(Step):
    """Asks a language model."""

    step_type: Literal[StepType.LLM_INVOCATION]
    llm_provider: Provider
    model_id: Annotated[NonEmptyStr, Field(description="The model; may be a template.")]
    fallbacks: Annotated[tuple[LlmFallback, ...], Field(description="Models to try after the first.")] = ()
    prompt_template_id: Annotated[NonEmptyStr | None, Field(description="A stored prompt template.")] = None
    direct_prompt: Annotated[str | None, Field(description="The prompt itself, instead of a stored one.")] = (
        None
    )
    template_context_mappings: Annotated[
        dict[str, ContextMapping], Field(default_factory=dict, description="Variables of the prompt.")
    ]
    media_attachments: Annotated[
        tuple[MediaAttachment, ...] | None, Field(description="Pictures and documents.")
    ] = None
    media_attachments_path: Annotated[str | None, Field(description="JSONPath to such a list.")] = None
    tools: Annotated[tuple[LlmTool, ...] | None, Field(description="What the model may use.")] = None
    tools_path: Annotated[str | None, Field(description="JSONPath to such a list.")] = None
    tool_choice: ToolChoice = None
    inference_parameters: Annotated[InferenceParameters | None, Field(description="How it answers.")] = None
    security_validator_config: Annotated[
        SecurityValidatorConfig | None, Field(description="What the answer must not contain.")
    ] = None
