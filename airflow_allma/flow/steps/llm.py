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
from airflow_allma.flow.steps.step_base import ContextMapping, HasConnection, Step, StepType

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
    """The providers of models."""

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
    Field(description="The provider of the model; can be a template."),
]
ToolChoice = Annotated[
    str | JsonObject | None,
    shape('"auto", "none", "required" or {"type": "function", "name": ...}', _is_tool_choice),
    Field(description="Whether the model can, must or must not use its tools."),
]


class LlmTool(Model):
    """A tool that a model can use."""

    type: Annotated[LlmToolType, Field(description="A function of the flow, or a tool of the provider.")]
    name: Annotated[str | None, Field(pattern=NAME_PATTERN, description="Name of a function.")] = None
    description: Annotated[
        NonEmptyStr | None, Field(description="Description of a function, for the model.")
    ] = None
    parameters: Annotated[AnyJson, Field(description="JSON Schema of a function's arguments.")] = None
    config: Annotated[JsonObject | None, Field(description="Settings of a provider's tool.")] = None


class MediaAttachment(Model):
    """A picture or a document for the model: exactly one of the three sources."""

    s3_pointer: Annotated[JsonObject | None, Field(alias="s3Pointer", description="An S3 object.")] = None
    url: Annotated[str | None, Field(description="The URL to fetch.")] = None
    base64: Annotated[str | None, Field(description="The content in Base64.")] = None
    mime_type: Annotated[str | None, Field(description="Media type; required with base64.")] = None


class InferenceParameters(Model):
    """Parameters of the model's answer."""

    temperature: Annotated[Number | None, Field(ge=0, le=2, description="0 to 2; default: 0.7.")] = None
    max_output_tokens: Annotated[
        Int | None, Field(gt=0, description="Maximum length of the answer, in tokens; default: 16000.")
    ] = None
    top_p: Annotated[Number | None, Field(ge=0, le=1, description="0 to 1; default: 0.95.")] = None
    top_k: Annotated[Int | None, Field(gt=0, description="Number of tokens to choose from; default: 40.")] = (
        None
    )
    seed: Annotated[Int | None, Field(description="Seed, for repeatable answers.")] = None


class LlmFallback(HasConnection, Model):
    """A model that is tried when all models before it failed."""

    llm_provider: Provider
    model_id: Annotated[NonEmptyStr, Field(description="The model; may be a template.")]
    inference_parameters: Annotated[
        InferenceParameters | None, Field(description="Replaces the step's own.")
    ] = None
    custom_config: Annotated[JsonObject | None, Field(description="Replaces the step's own.")] = None
    tools: Annotated[tuple[LlmTool, ...] | None, Field(description="Tools that this model can use.")] = None
    tools_path: Annotated[str | None, Field(description="JSONPath to a list of tools.")] = None
    tool_choice: ToolChoice = None


class SemanticCheck(Model):
    """Rejects an answer that is too similar to the prompt."""

    similarity_threshold: Annotated[Number, Field(ge=0.8, le=1, description="0.8 to 1.")]


class SecurityValidatorConfig(Model):
    """What an answer must not contain."""

    forbidden_strings: Annotated[
        tuple[str, ...] | None, Field(description="Strings that must not occur, in upper or lower case.")
    ] = None
    semantic_check: Annotated[
        SemanticCheck | None, Field(description="Maximum similarity to the prompt.")
    ] = None


class LlmInvocationStep(HasConnection, Step):
    """Calls a language model."""

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
    media_attachments_path: Annotated[str | None, Field(description="JSONPath to a list of attachments.")] = (
        None
    )
    tools: Annotated[tuple[LlmTool, ...] | None, Field(description="Tools that the model can use.")] = None
    tools_path: Annotated[str | None, Field(description="JSONPath to a list of tools.")] = None
    tool_choice: ToolChoice = None
    inference_parameters: Annotated[
        InferenceParameters | None, Field(description="Parameters of the answer.")
    ] = None
    security_validator_config: Annotated[
        SecurityValidatorConfig | None, Field(description="What the answer must not contain.")
    ] = None
