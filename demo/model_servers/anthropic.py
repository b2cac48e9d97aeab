"""Messages as Anthropic documents them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

from demo.model_servers.behaviour import Behaviour
from demo.model_servers.exchange import (
    Asked,
    Call,
    Found,
    Limits,
    ModelApiError,
    Reply,
    Strict,
    bearer_token,
    check_base64,
    decode_strictly,
    identifier,
)

__all__ = ["AnthropicDialect"]

JsonMap = dict[str, Any]
ImageType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class TextBlock(Strict, frozen=True, tag_field="type", tag="text"):
    text: Annotated[str, msgspec.Meta(min_length=1)]
    cache_control: JsonMap | None = None
    citations: list[JsonMap] | None = None


class Source(Strict, frozen=True):
    type: Literal["base64", "url", "file", "text", "content"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Any = None


class ImageBlock(Strict, frozen=True, tag_field="type", tag="image"):
    source: Source
    cache_control: JsonMap | None = None


class DocumentBlock(Strict, frozen=True, tag_field="type", tag="document"):
    source: Source
    title: str | None = None
    context: str | None = None
    citations: JsonMap | None = None
    cache_control: JsonMap | None = None


class ToolUseBlock(Strict, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: JsonMap
    cache_control: JsonMap | None = None


class ToolResultBlock(Strict, frozen=True, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: Any = None
    is_error: bool | None = None
    cache_control: JsonMap | None = None


class Message(Strict, frozen=True):
    role: Literal["user", "assistant"]
    content: (
        Annotated[str, msgspec.Meta(min_length=1)]
        | list[TextBlock | ImageBlock | DocumentBlock | ToolUseBlock | ToolResultBlock]
    )


class InputSchema(msgspec.Struct, frozen=True):
    """A JSON Schema; other keywords are allowed."""

    type: Literal["object"]


class ToolItem(Strict, frozen=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    type: (
        Annotated[str, msgspec.Meta(pattern=r"^(custom|(web_search|web_fetch|code_execution)_\d{8})$")] | None
    ) = None
    description: str | None = None
    input_schema: InputSchema | None = None
    cache_control: JsonMap | None = None
    strict: bool | None = None
    max_uses: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    user_location: JsonMap | None = None
    citations: JsonMap | None = None
    max_content_tokens: int | None = None


class ToolChoice(Strict, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesRequest(Strict, frozen=True):
    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    container: Any = None
    context_management: JsonMap | None = None
    metadata: JsonMap | None = None
    mcp_servers: list[JsonMap] | None = None
    output_config: JsonMap | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    system: str | list[TextBlock] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    thinking: JsonMap | None = None
    tool_choice: ToolChoice | None = None
    tools: list[ToolItem] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


_DECODER = msgspec.json.Decoder(MessagesRequest)
# status -> type and message
_ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


class AnthropicDialect:
    """The Messages API."""

    def authorize(self, call: Call, key: str | None) -> str:
        given = call.headers.get("x-api-key", "") or bearer_token(call)
        if not given:
            raise ModelApiError(401, "x-api-key header is required")
        if key not in {None, given}:
            raise ModelApiError(401, "invalid x-api-key")
        return given

    def read(self, call: Call) -> Asked:
        if not call.headers.get("anthropic-version"):
            raise ModelApiError(400, "anthropic-version: header is required")
        if call.headers["anthropic-version"] not in {"2023-06-01", "2023-01-01"}:
            raise ModelApiError(
                400, f'anthropic-version: "{call.headers["anthropic-version"]}" is not a valid version'
            )
        request = _decode(call.body)
        if request.stream:
            raise ModelApiError(400, "stream: this server does not stream")
        found, others = _contents(request)
        return found.asked(
            others,
            model=request.model,
            functions=_functions(request),
            provider_tools=_server_tools(request),
            needs_tool=request.tool_choice is not None and request.tool_choice.type in {"any", "tool"},
            max_tokens=request.max_tokens,
            sampling=frozenset(
                name for name in ("temperature", "top_p", "top_k") if getattr(request, name) is not None
            ),
        )

    def check(self, asked: Asked, behaviour: Behaviour) -> None:
        if behaviour.one_sampling_parameter and {"temperature", "top_p"} <= asked.sampling:
            raise ModelApiError(
                400, "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
            )
        if (allowed := asked.exceeded(behaviour)) is not None:
            raise ModelApiError(
                400,
                f"max_tokens: {asked.max_tokens} > {allowed}, which is the maximum allowed number of output "
                f"tokens for {asked.model}",
            )
        if asked.media and not behaviour.media:
            raise ModelApiError(400, "messages.0.content.0: this model does not support image input")

    def answer(self, asked: Asked, reply: Reply, call: Call) -> Mapping[str, Any]:
        content: list[JsonMap] = []
        if asked.provider_tools:
            content += _search(call)
        if reply.text and not reply.behaviour.blocked:
            content.append({"type": "text", "text": reply.text, "citations": None})
        content += [
            {
                "type": "tool_use",
                "id": identifier("toolu_", call.number * 100 + index),
                "name": tool.name,
                "input": tool.args,
            }
            for index, tool in enumerate(reply.calls)
        ]
        body: JsonMap = {
            "id": identifier("msg_", call.number),
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": content,
            "stop_reason": _stop_reason(reply),
            "stop_sequence": None,
        }
        if reply.behaviour.usage:
            cached = reply.behaviour.cached_tokens
            body["usage"] = {
                "input_tokens": reply.input_tokens - cached,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached,
                "output_tokens": reply.output_tokens,
                "service_tier": "standard",
            }
        return body

    def error(self, error: ModelApiError, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        kind, message = _ERRORS.get(error.status, _ERRORS[500 if error.status >= 500 else 400])
        request_id = identifier("req_", call.number)
        body = {
            "type": "error",
            "error": {"type": error.code or kind, "message": str(error) or message},
            "request_id": request_id,
        }
        return body, {"request-id": request_id}

    def limit_headers(self, limits: Limits) -> Mapping[str, str]:
        headers = {}
        for name, state in (("requests", limits.requests), ("tokens", limits.tokens)):
            if state is not None:
                reset = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=state.reset_seconds)
                headers[f"anthropic-ratelimit-{name}-limit"] = str(state.limit)
                headers[f"anthropic-ratelimit-{name}-remaining"] = str(state.remaining)
                headers[f"anthropic-ratelimit-{name}-reset"] = reset.isoformat().replace("+00:00", "Z")
        return headers


def _decode(body: bytes) -> MessagesRequest:
    try:
        return decode_strictly(_DECODER, body)
    except ModelApiError as error:
        if error.code == "unknown field":
            path = (error.param or "").replace("[", ".").replace("]", "")
            raise ModelApiError(400, f"{path}: Extra inputs are not permitted") from error
        raise


def _contents(request: MessagesRequest) -> tuple[Found, list[str]]:
    """Return texts and media of the user's messages, and all other texts."""
    found, others = Found(), []
    if isinstance(request.system, str):
        others.append(request.system)
    else:
        others += [block.text for block in request.system or ()]
    for index, message in enumerate(request.messages):
        texts = found.texts if message.role == "user" else others
        if isinstance(message.content, str):
            texts.append(message.content)
            continue
        for number, block in enumerate(message.content):
            if isinstance(block, TextBlock):
                texts.append(block.text)
            elif isinstance(block, ImageBlock | DocumentBlock):
                found.media.append(_medium(block, f"messages.{index}.content.{number}"))
    return found, others


def _medium(block: ImageBlock | DocumentBlock, where: str) -> str:
    source = block.source
    kind = "image" if isinstance(block, ImageBlock) else "document"
    types = get_args(ImageType) if kind == "image" else ("application/pdf",)
    if source.type == "base64":
        if source.media_type not in types:
            raise ModelApiError(
                400,
                f"{where}.{kind}.source.base64.media_type: Input should be {' or '.join(map(repr, types))}",
            )
        check_base64(source.data or "", f"{where}.{kind}.source.base64.data")
    elif source.type == "url" and not (source.url or "").startswith("https://"):
        raise ModelApiError(400, f"{where}.{kind}.source.url.url: Only HTTPS URLs are supported.")
    return source.media_type or kind


def _functions(request: MessagesRequest) -> tuple[str, ...]:
    names = []
    for index, tool in enumerate(request.tools or ()):
        if tool.type in {None, "custom"}:
            if tool.input_schema is None:
                raise ModelApiError(400, f"tools.{index}.custom.input_schema: Field required")
            if tool.max_uses is not None or tool.allowed_domains is not None:
                raise ModelApiError(400, f"tools.{index}.custom.max_uses: Extra inputs are not permitted")
            names.append(tool.name)
    choice = request.tool_choice
    if choice is None:
        return tuple(names)
    if not request.tools:
        raise ModelApiError(400, "tool_choice: tool_choice may only be specified while providing tools.")
    if choice.type == "none":
        return ()
    if choice.type == "tool":
        if choice.name not in names:
            raise ModelApiError(400, f"Tool '{choice.name}' not found in provided tools")
        return (choice.name,)
    return tuple(names)


def _server_tools(request: MessagesRequest) -> tuple[str, ...]:
    names = []
    for index, tool in enumerate(request.tools or ()):
        if tool.type not in {None, "custom"}:
            expected = (tool.type or "").rpartition("_")[0]
            if tool.name != expected:
                raise ModelApiError(400, f"tools.{index}.{tool.type}.name: Input should be '{expected}'")
            names.append(tool.name)
    return tuple(names)


def _search(call: Call) -> list[JsonMap]:
    used = identifier("srvtoolu_", call.number)
    result = {
        "type": "web_search_result",
        "url": "https://example.com/page",
        "title": "A page",
        "encrypted_content": "AA==",
        "page_age": None,
    }
    return [
        {"type": "server_tool_use", "id": used, "name": "web_search", "input": {"query": "a query"}},
        {"type": "web_search_tool_result", "tool_use_id": used, "content": [result]},
    ]


def _stop_reason(reply: Reply) -> str:
    if reply.behaviour.refusal or reply.behaviour.blocked:
        return "refusal"
    if reply.calls:
        return "tool_use"
    return "max_tokens" if reply.incomplete else "end_turn"
