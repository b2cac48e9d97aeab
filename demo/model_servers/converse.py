"""Converse as AWS documents it for the Bedrock runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from demo.model_servers.behaviour import Behaviour
from demo.model_servers.exchange import (
    Asked,
    Call,
    Found,
    Limits,
    ModelApiError,
    Reply,
    StrictCamel,
    bearer_token,
    check_base64,
    decode_strictly,
    identifier,
)

__all__ = ["ConverseDialect"]

JsonMap = dict[str, Any]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Source(StrictCamel, frozen=True):
    bytes: str | None = None
    s3_location: JsonMap | None = None
    text: str | None = None
    content: Any = None


class Image(StrictCamel, frozen=True):
    format: Literal["png", "jpeg", "gif", "webp"]
    source: Source


class Document(StrictCamel, frozen=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9\s\-()\[\]]{1,200}$")]
    source: Source
    format: Literal["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"] | None = None
    context: str | None = None
    citations: JsonMap | None = None


class Block(StrictCamel, frozen=True):
    text: str | None = None
    image: Image | None = None
    document: Document | None = None
    video: JsonMap | None = None
    audio: JsonMap | None = None
    tool_use: JsonMap | None = None
    tool_result: JsonMap | None = None
    guard_content: JsonMap | None = None
    cache_point: JsonMap | None = None
    reasoning_content: JsonMap | None = None


class Message(StrictCamel, frozen=True):
    role: Literal["user", "assistant"]
    content: list[Block]


class SystemBlock(StrictCamel, frozen=True):
    text: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    guard_content: JsonMap | None = None
    cache_point: JsonMap | None = None


class InferenceConfig(StrictCamel, frozen=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    stop_sequences: list[str] | None = None


class InputSchema(StrictCamel, frozen=True):
    json: JsonMap


class ToolSpec(StrictCamel, frozen=True):
    name: Name
    input_schema: InputSchema
    description: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    strict: bool | None = None


class Tool(StrictCamel, frozen=True):
    tool_spec: ToolSpec | None = None
    system_tool: JsonMap | None = None
    cache_point: JsonMap | None = None


class ChosenTool(StrictCamel, frozen=True):
    name: Name


class ToolChoice(StrictCamel, frozen=True):
    auto: JsonMap | None = None
    any: JsonMap | None = None
    tool: ChosenTool | None = None


class ToolConfig(StrictCamel, frozen=True):
    tools: Annotated[list[Tool], msgspec.Meta(min_length=1)]
    tool_choice: ToolChoice | None = None


class ConverseRequest(StrictCamel, frozen=True):
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    system: list[SystemBlock] | None = None
    inference_config: InferenceConfig = msgspec.field(default_factory=InferenceConfig)
    tool_config: ToolConfig | None = None
    guardrail_config: JsonMap | None = None
    additional_model_request_fields: JsonMap | None = None
    additional_model_response_field_paths: list[str] | None = None
    prompt_variables: JsonMap | None = None
    request_metadata: dict[str, str] | None = None
    performance_config: JsonMap | None = None
    service_tier: JsonMap | None = None
    output_config: JsonMap | None = None


_DECODER = msgspec.json.Decoder(ConverseRequest)
_SIGNATURE = re.compile(
    r"^AWS4-HMAC-SHA256 Credential=([^/,]+)/\d{8}/[a-z0-9-]+/bedrock/aws4_request, SignedHeaders=[^,]+, "
    r"Signature=[0-9a-f]{64}$"
)
# status -> exception and message
_ERRORS = {
    400: ("ValidationException", "The provided request is not valid"),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: (
        "ResourceNotFoundException",
        "Could not resolve the foundation model from the model identifier.",
    ),
    408: ("ModelTimeoutException", "The request took too long to process."),
    424: ("ModelErrorException", "The request failed due to an error while processing the model."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: ("InternalServerException", "The system encountered an unexpected error during processing."),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}


class ConverseDialect:
    """The Converse operation. Signatures must have the right form; they are not verified."""

    def authorize(self, call: Call, key: str | None) -> str:
        header = call.headers.get("Authorization", "")
        if not header:
            raise ModelApiError(
                403, "Missing Authentication Token", code="MissingAuthenticationTokenException"
            )
        match = _SIGNATURE.match(header)
        given = match[1] if match else bearer_token(call)
        if not given:
            raise ModelApiError(
                403,
                "The request signature does not conform to AWS standards.",
                code="IncompleteSignatureException",
            )
        if key not in {None, given}:
            raise ModelApiError(
                403,
                "The security token included in the request is invalid.",
                code="UnrecognizedClientException",
            )
        return given

    def read(self, call: Call) -> Asked:
        request = _decode(call.body)
        if request.messages[0].role != "user":
            raise ModelApiError(400, "A conversation must start with a user message. Try again.")
        found, others = _contents(request)
        config = request.inference_config
        choice = request.tool_config and request.tool_config.tool_choice
        return found.asked(
            others,
            model=call.place["model"],
            functions=_functions(request),
            needs_tool=bool(choice and (choice.any is not None or choice.tool is not None)),
            max_tokens=config.max_tokens,
            sampling=frozenset(
                name for name in ("temperature", "top_p") if getattr(config, name) is not None
            ),
        )

    def check(self, asked: Asked, behaviour: Behaviour) -> None:
        if behaviour.one_sampling_parameter and len(asked.sampling) > 1:
            raise ModelApiError(
                400,
                "The model returned the following errors: `temperature` and `top_p` cannot both be specified "
                "for this model. Please use only one.",
            )
        if (allowed := asked.exceeded(behaviour)) is not None:
            raise ModelApiError(
                400,
                f"The maximum tokens you requested exceeds the model limit of {allowed}. Try again with a "
                f"maximum tokens value that is lower than {allowed}.",
            )
        if asked.media and not behaviour.media:
            raise ModelApiError(400, "This model doesn't support the image content block that you provided.")

    def answer(self, asked: Asked, reply: Reply, call: Call) -> Mapping[str, Any]:
        del asked
        content: list[JsonMap] = [{"text": reply.text}] if reply.text else []
        content += [
            {
                "toolUse": {
                    "toolUseId": identifier("tooluse_", call.number * 100 + index),
                    "name": tool.name,
                    "input": tool.args,
                }
            }
            for index, tool in enumerate(reply.calls)
        ]
        body: JsonMap = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": _stop_reason(reply),
            "metrics": {"latencyMs": round(reply.behaviour.latency * 1000)},
        }
        if reply.behaviour.usage:
            cached = reply.behaviour.cached_tokens
            body["usage"] = {
                "inputTokens": reply.input_tokens - cached,
                "outputTokens": reply.output_tokens,
                "totalTokens": reply.input_tokens + reply.output_tokens,
                "cacheReadInputTokens": cached,
                "cacheWriteInputTokens": 0,
            }
        return body

    def error(self, error: ModelApiError, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        name, message = _ERRORS.get(error.status, _ERRORS[500 if error.status >= 500 else 400])
        headers = {
            "x-amzn-ErrorType": error.code or name,
            "x-amzn-RequestId": identifier("", call.number),
        }
        return {"message": str(error) or message}, headers

    def limit_headers(self, limits: Limits) -> Mapping[str, str]:
        del limits  # Bedrock sends none.
        return {}


def _decode(body: bytes) -> ConverseRequest:
    try:
        return decode_strictly(_DECODER, body)
    except ModelApiError as error:
        if error.code == "unknown field":
            raise ModelApiError(400, f"extraneous key [{error.param}] is not permitted") from error
        raise


def _contents(request: ConverseRequest) -> tuple[Found, list[str]]:
    """Return texts and media of the user's messages, and all other texts."""
    found, others = Found(), [block.text for block in request.system or () if block.text]
    for message in request.messages:
        if not message.content:
            raise ModelApiError(400, "The content field in the Message object is empty.")
        has_document = False
        for block in message.content:
            kinds = [name for name in block.__struct_fields__ if getattr(block, name) is not None]
            if len(kinds) != 1:
                raise ModelApiError(400, "A content block must have exactly one member.")
            if block.text is not None:
                if not block.text.strip():
                    raise ModelApiError(400, "The text field in the ContentBlock object is blank.")
                (found.texts if message.role == "user" else others).append(block.text)
            if block.image is not None:
                found.media.append(_medium(block.image.source, "image"))
            if block.document is not None:
                has_document = True
                found.media.append(_medium(block.document.source, "document"))
        if has_document and not any(block.text for block in message.content):
            raise ModelApiError(400, "A text block is required in a message with documents.")
    return found, others


def _medium(source: Source, kind: str) -> str:
    if source.bytes is not None:
        check_base64(source.bytes, f"{kind}.source.bytes")
    elif source.s3_location is None and source.text is None and source.content is None:
        raise ModelApiError(400, f"The source of the {kind} block is missing.")
    return kind


def _functions(request: ConverseRequest) -> tuple[str, ...]:
    config = request.tool_config
    if config is None:
        return ()
    names = tuple(tool.tool_spec.name for tool in config.tools if tool.tool_spec)
    if config.tool_choice is None:
        return names
    if sum(value is not None for value in msgspec.structs.asdict(config.tool_choice).values()) != 1:
        raise ModelApiError(400, "toolChoice must have exactly one of auto, any and tool.")
    if config.tool_choice.tool is not None:
        chosen = config.tool_choice.tool.name
        if chosen not in names:
            raise ModelApiError(400, f"The tool {chosen} of toolChoice is not in toolConfig.tools.")
        return (chosen,)
    return names


def _stop_reason(reply: Reply) -> str:
    if reply.behaviour.blocked:
        return "guardrail_intervened"
    if reply.behaviour.refusal:
        return "content_filtered"
    if reply.calls:
        return "tool_use"
    return "max_tokens" if reply.incomplete else "end_turn"
