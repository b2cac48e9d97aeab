"""Google's Gemini models, with the Gemini API or Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.gemini_url import model_url
from airflow_allma.engine.llm.model_connections import (
    KeyHeader,
    ModelEndpoint,
    ParsedConnections,
    connection_type,
    read_endpoint,
    require_connection,
)
from airflow_allma.engine.llm.model_failures import ModelExchange, foreign_response, response_error
from airflow_allma.engine.llm.model_http import count_of, post_request, read_answer
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    ModelRequest,
    ModelResponse,
    ProviderTool,
    TokenUsage,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from airflow_allma.engine.llm.provider_features import arguments_schema, check_features, functions_of
from airflow_allma.engine.llm.vertex import VertexProject, is_vertex, read_vertex
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = ["GeminiClient"]

_DEFAULT_URL: Final = "https://generativelanguage.googleapis.com"
_VERSION: Final = "/v1beta"
# Not in the URL, which is logged.
_KEY: Final = KeyHeader("x-goog-api-key")
_HARM_CATEGORIES: Final = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)
_SAFETY: Final = [{"category": category, "threshold": "BLOCK_ONLY_HIGH"} for category in _HARM_CATEGORIES]
_PROVIDER_TOOLS: Final[Mapping[LlmToolType, str]] = {
    LlmToolType.GOOGLE_SEARCH: "googleSearch",
    LlmToolType.CODE_EXECUTION: "codeExecution",
}
_MODES: Final[Mapping[ToolChoiceMode, str]] = {
    ToolChoiceMode.AUTO: "AUTO",
    ToolChoiceMode.NONE: "NONE",
    ToolChoiceMode.REQUIRED: "ANY",
    ToolChoiceMode.FUNCTION: "ANY",
}
_FINISH: Final[Mapping[str | None, FinishReason]] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "BLOCKLIST": FinishReason.REFUSED,
    "IMAGE_SAFETY": FinishReason.REFUSED,
    "MODEL_ARMOR": FinishReason.REFUSED,
    "PROHIBITED_CONTENT": FinishReason.REFUSED,
    "RECITATION": FinishReason.REFUSED,
    "SAFETY": FinishReason.REFUSED,
    "SPII": FinishReason.REFUSED,
}


def _read_server(secret: ConnectionSecret) -> ModelEndpoint | VertexProject:
    if is_vertex(connection_type(secret, LlmProvider.GEMINI)):
        return read_vertex(secret)
    endpoint = read_endpoint(secret, _KEY, _DEFAULT_URL)
    return replace(endpoint, base_url=endpoint.base_url.removesuffix(_VERSION) + _VERSION)


class GeminiClient:
    """The client of GEMINI; see ``ModelClient``.

    Connections: the password is the key, and the host the base URL, up to ``/v1beta/models``. A connection of
    type ``google_cloud_platform`` or ``pydanticai_vertex`` means Vertex AI; see ``vertex.read_vertex``.
    """

    def __init__(self) -> None:
        self._servers = ParsedConnections(_read_server)

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request; see ``ModelClient``."""
        check_features(request)

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request; see ``ModelClient``."""
        secret = await require_connection(call, connection, LlmProvider.GEMINI)
        server = self._servers.get(secret)
        if isinstance(server, VertexProject):
            endpoint = await server.authorized(call)
            path = server.path_of(request.model.model_id)
        else:
            endpoint, path = server, request.model.model_id
            path = path if "/" in path else f"models/{path}"
        url = model_url(endpoint.base_url, path, request.model)
        response, sent = await post_request(call, request, endpoint, url, body=_body_of(request))
        if response.status == 401 and isinstance(server, VertexProject):
            # The token or its service account was revoked.
            server.tokens.forget()
        return _answer_of(response, sent)


def _body_of(request: ModelRequest) -> dict[str, Any]:
    # Bytes are sent as Base64.
    parts: list[dict[str, Any]] = [
        {"inlineData": {"mimeType": media.mime_type, "data": media.data}} for media in request.media
    ]
    parts.append({"text": request.prompt})
    safety = request.config.get("safetySettings")
    body: dict[str, Any] = {
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": _generation_config(request),
        "safetySettings": _SAFETY if safety is None else safety,
    }
    functions = functions_of(request)
    tools: list[dict[str, Any]] = []
    if functions:
        declarations = [
            {
                "name": tool.name,
                "description": tool.description,
                "parametersJsonSchema": arguments_schema(tool),
            }
            for tool in functions
        ]
        tools.append({"functionDeclarations": declarations})
        if request.tool_choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _calling_config(request.tool_choice)}
    tools += [
        {_PROVIDER_TOOLS[tool.type]: tool.config} for tool in request.tools if isinstance(tool, ProviderTool)
    ]
    if tools:
        body["tools"] = tools
    return body


def _generation_config(request: ModelRequest) -> dict[str, Any]:
    # Gemini has the names of the flow language.
    config = request.parameters.to_dict()
    # The API refuses JSON mode together with a tool of its own.
    if request.json_output and not any(isinstance(tool, ProviderTool) for tool in request.tools):
        config["responseMimeType"] = "application/json"
    return config


def _calling_config(choice: ToolChoice) -> dict[str, Any]:
    names = {"allowedFunctionNames": [choice.name]} if choice.mode is ToolChoiceMode.FUNCTION else {}
    return {"mode": _MODES[choice.mode], **names}


class _FunctionCall(msgspec.Struct):
    name: str
    args: Any = None
    id: str | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str = ""
    grounding_metadata: Any = None


class _PromptFeedback(msgspec.Struct, rename="camel"):
    block_reason: str = ""
    block_reason_message: str = ""


class _Generated(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _PromptFeedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None


_decoder: Final = msgspec.json.Decoder(_Generated)


def _answer_of(response: HttpResponse, sent: ModelExchange) -> ModelResponse:
    if not 200 <= response.status < 300:
        raise response_error(response, sent)
    answer = read_answer(response, _decoder, sent)
    usage, feedback = _usage_of(answer.usage_metadata), answer.prompt_feedback
    if not answer.candidates:
        if feedback is None and answer.usage_metadata is None and answer.model_version is None:
            raise foreign_response(response, sent, "it has no candidates")
        feedback = feedback or _PromptFeedback()
        refusal = feedback.block_reason_message or feedback.block_reason or "no candidates"
        return ModelResponse(None, FinishReason.REFUSED, usage, refusal=refusal, model=answer.model_version)
    candidate = answer.candidates[0]
    parts = (candidate.content.parts if candidate.content else None) or []
    texts = [part.text for part in parts if part.text is not None and not part.thought]
    calls = tuple(
        ToolCall(call.name, {} if call.args is None else call.args, call.id)
        for part in parts
        if (call := part.function_call) is not None
    )
    finish = _FINISH.get(candidate.finish_reason, FinishReason.OTHER)
    if calls and finish is FinishReason.STOP:
        finish = FinishReason.TOOL_CALLS
    is_refused = finish is FinishReason.REFUSED
    return ModelResponse(
        "".join(texts) if texts else None,
        finish,
        usage,
        calls,
        candidate.grounding_metadata,
        (candidate.finish_message or str(candidate.finish_reason)) if is_refused else "",
        answer.model_version,
    )


def _usage_of(usage: Any) -> TokenUsage:
    return TokenUsage(
        count_of(usage, "promptTokenCount", "toolUsePromptTokenCount"),
        count_of(usage, "candidatesTokenCount", "thoughtsTokenCount"),
        count_of(usage, "cachedContentTokenCount"),
    )
