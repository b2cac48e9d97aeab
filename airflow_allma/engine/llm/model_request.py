"""Requests to language models and their answers, the same for all providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from airflow_allma.exceptions import TransientStepError
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = [
    "PARAMETER_NAMES",
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
        model_id: the provider's id of the model, or an ARN.
    """

    provider: LlmProvider
    model_id: str

    def __str__(self) -> str:
        return f"{self.provider.value}/{self.model_id}"


@dataclass(frozen=True, slots=True)
class Media:
    """An attachment: an image or a PDF for the model.

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
        type: the kind of tool; never ``FUNCTION``.
        config: its settings, passed on to the provider.
    """

    type: LlmToolType
    config: Mapping[str, Any]


class ToolChoiceMode(StrEnum):
    """Whether the model uses its tools."""

    AUTO = "auto"
    """The model decides."""
    NONE = "none"
    """The model uses no tool."""
    REQUIRED = "required"
    """The model uses at least one tool."""
    FUNCTION = "function"
    """The model calls the function that is named."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model can, must or must not use its tools.

    Attributes:
        mode: which of these applies.
        name: the function; empty in all modes but ``FUNCTION``.
    """

    mode: ToolChoiceMode
    name: str = ""


PARAMETER_NAMES: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "max_output_tokens": "maxOutputTokens",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
}
"""Attribute of ``Parameters`` -> its name in the flow language."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Inference parameters.

    Attributes:
        temperature: from 0 to 2.
        max_output_tokens: maximum length of the answer, in tokens.
        top_p: from 0 to 1.
        top_k: number of tokens to choose from.
        seed: for repeatable answers; None for random ones.
        explicit: names of the attributes that the flow sets; the others are defaults, which are left out if
            the model does not accept them.
    """

    temperature: float = 0.7
    max_output_tokens: int = 16_000
    top_p: float = 0.95
    top_k: int = 40
    seed: int | None = None
    explicit: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters by their names in the flow language, without a seed if there is none."""
        values = {name: getattr(self, attribute) for attribute, name in PARAMETER_NAMES.items()}
        if self.seed is None:
            del values["seed"]
        return values


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to one model.

    Attributes:
        model: the model.
        prompt: the rendered prompt, not empty.
        media: the attachments, sent before the prompt.
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
    """Token counts that the provider reports.

    Attributes:
        input_tokens: of prompt, media and tools.
        output_tokens: of the answer, reasoning included.
        cached_tokens: those input tokens that came from the provider's prompt cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks the flow to call.

    Attributes:
        name: the function.
        args: its arguments, an object; a string if the model wrote arguments that are not JSON.
        id: the provider's id of the call; None if it has none.
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
    """The model refused to answer, or a filter of the provider blocked the prompt or the answer."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit of a provider, as its response headers report it.

    Attributes:
        limit: requests or tokens in one period; None if not reported.
        remaining: what is left of them.
        reset_seconds: seconds until all of it is available again; None if not reported.
    """

    limit: int | None
    remaining: int
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits that a provider reports with a response.

    Attributes:
        requests: the limit of requests; None if not reported.
        tokens: the limit of tokens; None if not reported.
    """

    requests: RateLimit | None = None
    tokens: RateLimit | None = None


class RateLimitedError(TransientStepError):
    """The call is rate limited (429). ``retry_after`` has the seconds to wait, if the provider reports them.

    Its error name is TransientStepError, for ``onError.retries.errorEquals`` in flows.

    Attributes:
        limits: the limits that the response reports.
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
    """The answer of a model. Code calls this the answer; a response is what a server sends over HTTP.

    Attributes:
        text: the text; None if there is none.
        finish: why it ended.
        usage: the token counts.
        tool_calls: functions that the model asks the flow to call, in the model's order.
        grounding: sources in the provider's own format; None if it reports none.
        refusal: why the model refused, in the provider's words; empty unless ``finish`` is ``REFUSED``.
        model: the provider's name of the model that answered; None if not reported.
        limits: the rate limits that the provider reports.
    """

    text: str | None
    finish: FinishReason
    usage: TokenUsage = TokenUsage()
    tool_calls: tuple[ToolCall, ...] = ()
    grounding: Any = None
    refusal: str = ""
    model: str | None = None
    limits: RateLimits = RateLimits()
