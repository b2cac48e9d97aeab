"""Anthropic's Messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_connections import (
    KeyHeader,
    ModelEndpoint,
    ParsedConnections,
    connection_type,
    read_endpoint,
    require_connection,
)
from airflow_allma.engine.llm.model_failures import ModelExchange, response_error
from airflow_allma.engine.llm.model_families import claude_max_tokens, takes_sampling
from airflow_allma.engine.llm.model_http import count_of, post_request, read_answer
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    FunctionTool,
    Media,
    ModelRequest,
    ModelResponse,
    Parameters,
    ProviderTool,
    TokenUsage,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from airflow_allma.engine.llm.provider_features import (
    PDF,
    IgnoredParameters,
    arguments_schema,
    check_features,
)
from airflow_allma.engine.llm.rate_limit_headers import anthropic_limits
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = ["AnthropicClient", "claude_sampling"]

_DEFAULT_URL: Final = "https://api.anthropic.com"
_KEY: Final = KeyHeader("x-api-key")
_VERSION_HEADER: Final = "anthropic-version"
_VERSION: Final = "2023-06-01"
# The flow language's default, bedrock-2023-05-31, is a version that only Bedrock has.
_OWN_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_BETA_HEADER: Final = "anthropic-beta"
_CODE_EXECUTION_BETA: Final = "code-execution-2025-08-25"
_PROVIDER_TOOLS: Final[Mapping[LlmToolType, Mapping[str, str]]] = {
    LlmToolType.WEB_SEARCH: {"type": "web_search_20250305", "name": "web_search"},
    LlmToolType.CODE_EXECUTION: {"type": "code_execution_20250825", "name": "code_execution"},
}
_CHOICES: Final[Mapping[ToolChoiceMode, str]] = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "any",
    ToolChoiceMode.FUNCTION: "tool",
}
_FINISH: Final[Mapping[str | None, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSED,
}


def _read_endpoint(secret: ConnectionSecret) -> ModelEndpoint:
    connection_type(secret, LlmProvider.ANTHROPIC)
    endpoint = read_endpoint(secret, _KEY, _DEFAULT_URL)
    headers = {_VERSION_HEADER: _VERSION, **endpoint.headers}
    return replace(endpoint, base_url=endpoint.base_url.removesuffix("/v1"), headers=headers)


class AnthropicClient:
    """The client of ANTHROPIC; see ``ModelClient``.

    Connections: the password is the key, and the host the base URL, up to ``/v1/messages``.
    ``customConfig.anthropic_version`` is the API's version if it is a date; other values are versions of
    Bedrock, and have no effect.
    """

    def __init__(self) -> None:
        self._endpoints = ParsedConnections(_read_endpoint)
        self._ignored = IgnoredParameters()

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request; see ``ModelClient``."""
        check_features(request)

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request; see ``ModelClient``."""
        secret = await require_connection(call, connection, LlmProvider.ANTHROPIC)
        endpoint = self._endpoints.get(secret)
        self._ignored.warn(request, ("seed",), call.log)
        response, sent = await post_request(
            call,
            request,
            endpoint,
            f"{endpoint.base_url}/v1/messages",
            body=_body_of(request),
            headers=_headers_of(request, endpoint),
        )
        return _answer_of(response, sent)


def _headers_of(request: ModelRequest, endpoint: ModelEndpoint) -> Mapping[str, str]:
    version = request.config.get("anthropic_version")
    changed = {}
    if isinstance(version, str) and version != _VERSION and _OWN_VERSION.fullmatch(version):
        changed[_VERSION_HEADER] = version
    if any(
        isinstance(tool, ProviderTool) and tool.type is LlmToolType.CODE_EXECUTION for tool in request.tools
    ):
        own = [value for name, value in endpoint.headers.items() if name.lower() == _BETA_HEADER]
        changed[_BETA_HEADER] = ",".join([*own, _CODE_EXECUTION_BETA])
    if not changed:
        return endpoint.headers
    kept = {name: value for name, value in endpoint.headers.items() if name.lower() not in changed}
    return {**kept, **changed}


def _body_of(request: ModelRequest) -> dict[str, Any]:
    model_id = request.model.model_id
    content: Any = request.prompt
    if request.media:
        content = [*map(_block, request.media), {"type": "text", "text": request.prompt}]
    body: dict[str, Any] = {
        "model": model_id,
        "max_tokens": claude_max_tokens(model_id, request.parameters),
        "messages": [{"role": "user", "content": content}],
        **claude_sampling(model_id, request.parameters),
    }
    if "top_k" in request.parameters.explicit:
        body["top_k"] = request.parameters.top_k
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    return body


def claude_sampling(model_id: str, parameters: Parameters) -> dict[str, float]:
    """Return the temperature and ``top_p`` to send: both only if the flow sets both, as models may reject it.

    Args:
        model_id: the model; models after version 4.6 get no defaults.
        parameters: the inference parameters.
    """
    explicit = parameters.explicit
    fields = {}
    if "temperature" in explicit or ("top_p" not in explicit and takes_sampling(model_id)):
        fields["temperature"] = parameters.temperature
    if "top_p" in explicit:
        fields["top_p"] = parameters.top_p
    return fields


def _block(media: Media) -> dict[str, Any]:
    kind = "document" if media.mime_type == PDF else "image"
    # Bytes are sent as Base64.
    return {"type": kind, "source": {"type": "base64", "media_type": media.mime_type, "data": media.data}}


def _tool(tool: FunctionTool | ProviderTool) -> dict[str, Any]:
    if isinstance(tool, ProviderTool):
        return {**_PROVIDER_TOOLS[tool.type], **tool.config}
    return {"name": tool.name, "description": tool.description, "input_schema": arguments_schema(tool)}


def _tool_choice(choice: ToolChoice) -> dict[str, str]:
    name = {"name": choice.name} if choice.mode is ToolChoiceMode.FUNCTION else {}
    return {"type": _CHOICES[choice.mode], **name}


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str | None = None
    name: str = ""
    input: Any = None
    citations: list[Any] | None = None


class _Message(msgspec.Struct):
    content: list[_Block]
    stop_reason: str | None = None
    stop_details: Any = None
    model: str | None = None
    usage: Any = None


_decoder: Final = msgspec.json.Decoder(_Message)


def _answer_of(response: HttpResponse, sent: ModelExchange) -> ModelResponse:
    limits = anthropic_limits(response.headers)
    if not 200 <= response.status < 300:
        raise response_error(response, sent, limits)
    message = read_answer(response, _decoder, sent)
    texts = [block.text for block in message.content if block.type == "text"]
    text = "".join(texts) if texts else None
    finish = _FINISH.get(message.stop_reason, FinishReason.OTHER)
    return ModelResponse(
        text,
        finish,
        TokenUsage(
            # Anthropic does not count cached tokens as input tokens.
            count_of(message.usage, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            count_of(message.usage, "output_tokens"),
            count_of(message.usage, "cache_read_input_tokens"),
        ),
        tuple(
            ToolCall(block.name, {} if block.input is None else block.input, block.id)
            for block in message.content
            if block.type == "tool_use"
        ),
        [citation for block in message.content for citation in block.citations or ()] or None,
        _refusal(message, text) if finish is FinishReason.REFUSED else "",
        message.model,
        limits,
    )


def _refusal(message: _Message, text: str | None) -> str:
    details = message.stop_details
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) and explanation else text or "refusal"
