"""What is asked of a language model and what it answers, whatever its provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_allma.exceptions import TransientStepError
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = [
    "FinishReason",
    "FunctionTool",
    "Media",
    "ModelName",
    "ModelRequest",
    "ModelResponse",
    "Parameters",
    "ProviderTool",
    "RateLimit",
    "RateLimitedError",
    "RateLimits",
    "TokenUsage",
    "ToolCall",
    "ToolChoice",
    "ToolChoiceMode",
]


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model of a provider.

    Attributes:
        provider: the provider.
        model_id: the model, by the provider's id or ARN.
    """

    provider: LlmProvider
    model_id: str

    def __str__(self) -> str:
        return f"{self.provider.value}/{self.model_id}"


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a document for the model.

    Attributes:
        mime_type: its media type, such as ``image/png``.
        data: its content.
    """

    mime_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that the model can ask the flow to call.

    Attributes:
        name: letters, digits, ``_`` and ``-``.
        description: for the model.
        parameters: JSON Schema of its arguments, an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderTool:
    """A tool that the provider runs itself.

    Attributes:
        type: which one; never ``FUNCTION``.
        config: its settings, passed on to the provider.
    """

    type: LlmToolType
    config: Mapping[str, Any]


class ToolChoiceMode(StrEnum):
    """Whether the model uses its tools."""

    AUTO = "auto"
    """As it decides."""
    NONE = "none"
    """Not at all."""
    REQUIRED = "required"
    """At least one."""
    FUNCTION = "function"
    """The one that is named."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model can, must or must not use its tools.

    Attributes:
        mode: which of the four.
        name: the function; empty in all modes but ``FUNCTION``.
    """

    mode: ToolChoiceMode
    name: str = ""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of the answer.

    Attributes:
        temperature: from 0 to 2.
        max_output_tokens: maximum length of the answer.
        top_p: from 0 to 1.
        top_k: number of tokens to choose from.
        seed: for repeatable answers; None for none.
        explicit: names of the attributes that the flow sets; the others are the language's defaults, which a
            provider can leave out if the model does not take them.
    """

    temperature: float = 0.7
    max_output_tokens: int = 16_000
    top_p: float = 0.95
    top_k: int = 40
    seed: int | None = None
    explicit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to one model.

    Attributes:
        model: the model.
        prompt: the rendered prompt, not empty.
        media: pictures and documents, sent before the prompt.
        tools: what the model can use.
        tool_choice: None for the provider's default.
        parameters: of the answer.
        json_output: whether the answer must be JSON.
        config: the step's rendered ``customConfig``, with settings of single providers.
    """

    model: ModelName
    prompt: str
    media: tuple[Media, ...] = ()
    tools: tuple[FunctionTool | ProviderTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parameters: Parameters = Parameters()
    json_output: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that the provider counted; those that it reported as cached are part of the input.

    Attributes:
        input_tokens: of prompt, media and tools.
        output_tokens: of the answer, reasoning included.
        cached_tokens: those of the input that the provider had cached.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks the flow to call.

    Attributes:
        name: the function.
        args: its arguments, an object; what the model wrote, a string, if that is not JSON.
        id: the provider's id of the call; None if it gives none.
    """

    name: str
    args: Any
    id: str | None = None


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    """It is complete."""
    LENGTH = "length"
    """It reached the token limit."""
    TOOL_CALLS = "tool_calls"
    """The model waits for results of tools."""
    REFUSED = "refused"
    """The model refused, or a filter of the provider blocked the prompt or the answer."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit of a provider, as its response headers report it.

    Attributes:
        limit: what is allowed in one period; None if it does not say.
        remaining: what is left of it.
        reset_seconds: until the whole limit is available again; None if it does not say.
    """

    limit: int | None
    remaining: int
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits that a provider reports with a response.

    Attributes:
        requests: of requests; None if it does not say.
        tokens: of tokens; None if it does not say.
    """

    requests: RateLimit | None = None
    tokens: RateLimit | None = None


class RateLimitedError(TransientStepError):
    """The provider refuses the call for now (429); ``retry_after`` says for how long, if it says so.

    Its name is that of a TransientStepError, which ``onError.retries.errorEquals`` of flows compares.

    Attributes:
        limits: the limits that it reports with the refusal.
    """

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        error_name: str | None = None,
        retry_after: float | None = None,
        limits: RateLimits | None = None,
    ) -> None:
        super().__init__(message, details=details, error_name=error_name, retry_after=retry_after)
        self.limits = limits or RateLimits()


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """The answer of a model.

    Attributes:
        text: None if there is no text.
        finish: why it ended.
        usage: the tokens.
        tool_calls: functions that it asks the flow to call, in its order.
        grounding: sources that the provider reports, as it reports them; None without.
        refusal: why the model refused, in the provider's words; empty unless ``finish`` is ``REFUSED``.
        model: the model that answered, by the provider's name; None if it does not say.
        limits: the limits that the provider reports.
    """

    text: str | None
    finish: FinishReason
    usage: TokenUsage = TokenUsage()
    tool_calls: tuple[ToolCall, ...] = ()
    grounding: Any = None
    refusal: str = ""
    model: str | None = None
    limits: RateLimits = RateLimits()
