"""OpenAI's chat completions, as OpenAI, Azure and compatible servers provide them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_connection import connection_error
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_connections import (
    KeyHeader,
    ModelEndpoint,
    ParsedConnections,
    connection_type,
    read_endpoint,
    require_connection,
)
from airflow_allma.engine.llm.model_failures import (
    ModelExchange,
    foreign_response,
    provider_error,
    response_error,
)
from airflow_allma.engine.llm.model_families import takes_default_tokens, takes_sampling
from airflow_allma.engine.llm.model_http import count_of, post_request, read_answer
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    Media,
    ModelRequest,
    ModelResponse,
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
    functions_of,
)
from airflow_allma.engine.llm.rate_limit_headers import openai_limits
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["OpenAiClient"]

_DEFAULT_URL: Final = "https://api.openai.com/v1"
_OPENAI_HOST: Final = "api.openai.com"
_BEARER: Final = KeyHeader("Authorization", "Bearer ")
_AZURE_KEY: Final = KeyHeader("api-key")
_AZURE_VERSION: Final = "2024-10-21"
_VERSION: Final = re.compile(r"[A-Za-z0-9.-]{1,40}")
_TOKEN_FIELDS: Final = ("max_completion_tokens", "max_tokens")
_JSON_WORD: Final = re.compile("json", re.IGNORECASE)
_ASK_FOR_JSON: Final = "Answer with JSON."
_FINISH: Final[Mapping[str | None, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.REFUSED,
}


@dataclass(frozen=True, slots=True)
class _Server:
    """A server with the chat completions API.

    Attributes:
        endpoint: base URL, headers and TLS.
        url: the whole URL or, with ``after_model``, its part before the name of the deployment.
        after_model: the part of the URL after that name; None if the URL has no such name.
        token_field: the field for the maximum length of the answer.
    """

    endpoint: ModelEndpoint
    url: str
    after_model: str | None
    token_field: str

    def url_for(self, model_id: str) -> str:
        if self.after_model is None:
            return self.url
        return f"{self.url}{quote(model_id, safe='')}{self.after_model}"


def _read_server(secret: ConnectionSecret) -> _Server:
    if connection_type(secret, LlmProvider.OPENAI) == "pydanticai_azure":
        return _read_azure(secret)
    api = secret.extra.get("api_type")
    if api == "azure":
        return _read_azure(secret)
    if api not in {None, "", "openai"}:
        raise connection_error(secret, "extra.api_type", 'must be "azure" or "openai"')
    endpoint = read_endpoint(secret, _BEARER, _DEFAULT_URL)
    base, parts = endpoint.base_url, urlsplit(endpoint.base_url)
    host = parts.hostname or ""
    is_openai = host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}")
    if is_openai and not parts.path:
        base += "/v1"
    return _Server(endpoint, f"{base}/chat/completions", None, _TOKEN_FIELDS[0 if is_openai else 1])


def _read_azure(secret: ConnectionSecret) -> _Server:
    endpoint = read_endpoint(secret, _AZURE_KEY, "")
    version = secret.extra.get("api_version") or _AZURE_VERSION
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise connection_error(secret, "extra.api_version", f"must be a version such as {_AZURE_VERSION!r}")
    base, field = endpoint.base_url, _TOKEN_FIELDS[0]
    if base.endswith("/openai/v1"):
        # Azure's newer API, which has no versions and names the deployment in the body.
        return _Server(endpoint, f"{base}/chat/completions", None, field)
    url = f"{base.removesuffix('/openai')}/openai/deployments/"
    return _Server(endpoint, url, f"/chat/completions?api-version={version}", field)


class OpenAiClient:
    """The client of OPENAI; see ``ModelClient``.

    Connections: the password is the key, and the host the base URL, with ``/v1`` or whatever the server has
    before ``/chat/completions``. ``"api_type": "azure"`` in the extra, or the type ``pydanticai_azure``,
    means Azure OpenAI: the host is the resource's URL, ``modelId`` the deployment, ``extra.api_version`` the
    version.

    ``customConfig.maxTokensField`` names the field for the maximum length of the answer:
    ``max_completion_tokens`` (default for OpenAI and Azure) or ``max_tokens`` (default for others).
    """

    def __init__(self) -> None:
        self._servers = ParsedConnections(_read_server)
        self._ignored = IgnoredParameters()

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request; see ``ModelClient``."""
        check_features(request)

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request; see ``ModelClient``."""
        secret = await require_connection(call, connection, LlmProvider.OPENAI)
        server = self._servers.get(secret)
        self._ignored.warn(request, ("top_k",), call.log)
        response, sent = await post_request(
            call,
            request,
            server.endpoint,
            server.url_for(request.model.model_id),
            body=_body_of(request, server),
        )
        return _answer_of(response, sent)


def _body_of(request: ModelRequest, server: _Server) -> dict[str, Any]:
    body: dict[str, Any] = {"model": request.model.model_id, "messages": _messages(request)}
    body |= _parameters(request, server)
    if request.json_output:
        body["response_format"] = {"type": "json_object"}
    functions = functions_of(request)
    if functions:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": arguments_schema(tool),
                },
            }
            for tool in functions
        ]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    for tool in request.tools:
        if isinstance(tool, ProviderTool):
            body["web_search_options"] = tool.config
    return body


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    content: Any = request.prompt
    if request.media:
        parts = [_part(media, number) for number, media in enumerate(request.media, 1)]
        content = [*parts, {"type": "text", "text": request.prompt}]
    messages = [{"role": "user", "content": content}]
    if request.json_output and not _JSON_WORD.search(request.prompt):
        # OpenAI rejects JSON mode unless a message contains the word "JSON".
        messages.insert(0, {"role": "system", "content": _ASK_FOR_JSON})
    return messages


def _part(media: Media, number: int) -> dict[str, Any]:
    url = f"data:{media.mime_type};base64,{base64.b64encode(media.data).decode()}"
    if media.mime_type == PDF:
        return {"type": "file", "file": {"filename": f"document-{number}.pdf", "file_data": url}}
    return {"type": "image_url", "image_url": {"url": url}}


def _parameters(request: ModelRequest, server: _Server) -> dict[str, Any]:
    parameters, model_id = request.parameters, request.model.model_id
    explicit = parameters.explicit
    fields: dict[str, Any] = {}
    samples = takes_sampling(model_id)
    if samples or "temperature" in explicit:
        fields["temperature"] = parameters.temperature
    if samples or "top_p" in explicit:
        fields["top_p"] = parameters.top_p
    if "max_output_tokens" in explicit or takes_default_tokens(model_id):
        fields[_token_field(request, server)] = parameters.max_output_tokens
    if parameters.seed is not None:
        fields["seed"] = parameters.seed
    return fields


def _token_field(request: ModelRequest, server: _Server) -> str:
    field = request.config.get("maxTokensField")
    if field is None:
        return server.token_field
    if field not in _TOKEN_FIELDS:
        raise PermanentStepError(f"customConfig.maxTokensField must be {' or '.join(_TOKEN_FIELDS)}.")
    return str(field)


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.mode is ToolChoiceMode.FUNCTION:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode.value


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    annotations: list[Any] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: Any = None


_decoder: Final = msgspec.json.Decoder(_Completion)


def _answer_of(response: HttpResponse, sent: ModelExchange) -> ModelResponse:
    limits = openai_limits(response.headers)
    if not 200 <= response.status < 300:
        error = provider_error(response, sent.masks)
        if response.status == 400 and "content_filter" in error.codes:
            # Azure filters the prompt before the model gets it, and responds with 400.
            return ModelResponse(None, FinishReason.REFUSED, refusal=error.message, limits=limits)
        raise response_error(response, sent, limits)
    completion = read_answer(response, _decoder, sent)
    if not completion.choices:
        raise foreign_response(response, sent, "it has no choices")
    choice = completion.choices[0]
    message = choice.message
    calls = tuple(map(_call_of, message.tool_calls)) if message.tool_calls else ()
    finish = _FINISH.get(choice.finish_reason, FinishReason.OTHER)
    if message.refusal:
        finish = FinishReason.REFUSED
    elif calls and finish is FinishReason.STOP:
        # A function call that toolChoice demands ends with `stop`.
        finish = FinishReason.TOOL_CALLS
    refusal = message.refusal or str(choice.finish_reason) if finish is FinishReason.REFUSED else ""
    return ModelResponse(
        _text_of(message.content),
        finish,
        _usage_of(completion.usage),
        calls,
        message.annotations or None,
        refusal,
        completion.model,
        limits,
    )


def _usage_of(usage: Any) -> TokenUsage:
    if not isinstance(usage, dict):
        return TokenUsage()
    return TokenUsage(
        count_of(usage, "prompt_tokens"),
        count_of(usage, "completion_tokens"),
        count_of(usage.get("prompt_tokens_details"), "cached_tokens"),
    )


def _text_of(content: Any) -> str | None:
    if isinstance(content, str) or content is None:
        return content
    # Some compatible servers send a list of parts; parts with reasoning do not belong to the answer.
    parts = content if isinstance(content, list) else []
    texts = [
        text
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(text := part.get("text"), str)
    ]
    return "".join(texts) if texts else None


def _call_of(call: _ToolCall) -> ToolCall:
    function = call.function or _Function("")
    arguments = function.arguments
    if isinstance(arguments, str):
        # Arguments that are not JSON stay a string, so that the flow can see what the model wrote.
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            arguments = msgspec.json.decode(arguments) if arguments.strip() else {}
    return ToolCall(function.name, {} if arguments is None else arguments, call.id)
