"""``generateContent`` as Google documents it for the Gemini API and for Vertex AI."""

from __future__ import annotations

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
from demo.model_servers.google_tokens import IssuedTokens

__all__ = ["GeminiDialect"]

JsonMap = dict[str, Any]
Threshold = Literal[
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
]


class Blob(StrictCamel, frozen=True):
    mime_type: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
    data: str


class FileData(StrictCamel, frozen=True):
    file_uri: str
    mime_type: str | None = None


class Part(StrictCamel, frozen=True):
    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: JsonMap | None = None
    function_response: JsonMap | None = None
    executable_code: JsonMap | None = None
    code_execution_result: JsonMap | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    video_metadata: JsonMap | None = None
    media_resolution: JsonMap | None = None


class Content(StrictCamel, frozen=True):
    parts: Annotated[list[Part], msgspec.Meta(min_length=1)]
    role: Literal["user", "model"] | None = None


class Instruction(StrictCamel, frozen=True):
    parts: list[Part]
    role: str | None = None


class FunctionDeclaration(StrictCamel, frozen=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$")]
    description: str = ""
    parameters: JsonMap | None = None
    parameters_json_schema: Any = None
    response: JsonMap | None = None
    response_json_schema: Any = None
    behavior: str | None = None


class Tool(StrictCamel, frozen=True):
    function_declarations: list[FunctionDeclaration] | None = None
    google_search: JsonMap | None = None
    google_search_retrieval: JsonMap | None = None
    code_execution: JsonMap | None = None
    url_context: JsonMap | None = None


class FunctionCallingConfig(StrictCamel, frozen=True):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] = "AUTO"
    allowed_function_names: list[str] | None = None


class ToolConfig(StrictCamel, frozen=True):
    function_calling_config: FunctionCallingConfig | None = None
    retrieval_config: JsonMap | None = None


class SafetySetting(StrictCamel, frozen=True):
    category: Annotated[str, msgspec.Meta(pattern="^HARM_CATEGORY_[A-Z_]+$")]
    threshold: Threshold
    method: str | None = None


class GenerationConfig(StrictCamel, frozen=True):
    stop_sequences: list[str] | None = None
    response_mime_type: Literal["text/plain", "application/json", "text/x.enum"] | None = None
    response_schema: JsonMap | None = None
    response_json_schema: Any = None
    response_modalities: list[str] | None = None
    candidate_count: int | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, msgspec.Meta(ge=1)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    enable_enhanced_civic_answers: bool | None = None
    speech_config: JsonMap | None = None
    thinking_config: JsonMap | None = None
    image_config: JsonMap | None = None
    media_resolution: str | None = None


class GenerateRequest(StrictCamel, frozen=True):
    contents: Annotated[list[Content], msgspec.Meta(min_length=1)]
    model: str | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    system_instruction: Instruction | None = None
    generation_config: GenerationConfig = msgspec.field(default_factory=GenerationConfig)
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    service_tier: str | None = None
    store: bool | None = None


_DECODER = msgspec.json.Decoder(GenerateRequest)
# status -> name and message
_ERRORS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "The model is not found."),
    429: (
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing.",
    ),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}


class GeminiDialect:
    """The Gemini API or, with tokens, Vertex AI.

    As Google does, the Gemini API refuses a request without a key with 403, and a wrong key with 400.
    """

    def __init__(self, tokens: IssuedTokens | None = None) -> None:
        self._tokens = tokens

    def authorize(self, call: Call, key: str | None) -> str:
        if self._tokens is not None:
            return self._token(call, self._tokens)
        given = call.headers.get("x-goog-api-key", "") or call.query.get("key", "")
        if not given:
            raise ModelApiError(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please "
                "use API Key or other form of API consumer identity to call this API.",
            )
        if key not in {None, given}:
            raise ModelApiError(
                400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID"
            )
        return given

    def _token(self, call: Call, tokens: IssuedTokens) -> str:
        given = bearer_token(call)
        if not tokens.accept(given):
            what = (
                "Request had invalid authentication credentials."
                if given
                else "Request is missing required authentication credential."
            )
            raise ModelApiError(
                401, f"{what} Expected OAuth 2 access token, login cookie or other valid credential."
            )
        return given

    def read(self, call: Call) -> Asked:
        request = _decode(call.body)
        if self._tokens is not None and any(content.role is None for content in request.contents):
            raise ModelApiError(400, "Please use a valid role: user, model.")
        found, others = _contents(request)
        config = request.generation_config
        return found.asked(
            others,
            model=call.place["model"],
            functions=_functions(request),
            provider_tools=_provider_tools(request),
            needs_tool=_mode(request) == "ANY",
            max_tokens=config.max_output_tokens,
            json_output=config.response_mime_type == "application/json",
        )

    def check(self, asked: Asked, behaviour: Behaviour) -> None:
        if asked.json_output and asked.provider_tools:
            raise ModelApiError(400, "Tool use with a response mime type: 'application/json' is unsupported")
        if asked.json_output and asked.functions and not behaviour.json_with_functions:
            raise ModelApiError(
                400, "Function calling with a response mime type: 'application/json' is unsupported"
            )
        if (allowed := asked.exceeded(behaviour)) is not None:
            raise ModelApiError(
                400,
                f"Unable to submit request because it has a maxOutputTokens value of {asked.max_tokens} but "
                f"the supported range is from 1 (inclusive) to {allowed + 1} (exclusive).",
            )
        if asked.media and not behaviour.media:
            raise ModelApiError(400, "Image input modality is not enabled for this model")

    def answer(self, asked: Asked, reply: Reply, call: Call) -> Mapping[str, Any]:
        behaviour = reply.behaviour
        body: JsonMap = {"modelVersion": asked.model, "responseId": identifier("", call.number)}
        if behaviour.blocked == "prompt":
            body["promptFeedback"] = {"blockReason": "SAFETY", "safetyRatings": [_RATING]}
        else:
            body["candidates"] = [_candidate(asked, reply)]
        if behaviour.usage:
            thoughts = behaviour.reasoning_tokens
            usage = {
                "promptTokenCount": reply.input_tokens,
                "candidatesTokenCount": reply.output_tokens - thoughts,
                "totalTokenCount": reply.input_tokens + reply.output_tokens,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
            }
            if thoughts:
                usage["thoughtsTokenCount"] = thoughts
            if behaviour.cached_tokens:
                usage["cachedContentTokenCount"] = behaviour.cached_tokens
            body["usageMetadata"] = usage
        return body

    def error(self, error: ModelApiError, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        del call
        status, message = _ERRORS.get(error.status, _ERRORS[500 if error.status >= 500 else 400])
        shown: JsonMap = {"code": error.status, "message": str(error) or message, "status": status}
        if error.retry_after is not None:
            shown["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": f"{error.retry_after:.3f}s",
                }
            ]
        elif error.code:
            shown["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": error.code,
                    "domain": "googleapis.com",
                }
            ]
        return {"error": shown}, {}

    def limit_headers(self, limits: Limits) -> Mapping[str, str]:
        del limits  # Google sends none.
        return {}


_RATING = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
_GROUNDING = {
    "webSearchQueries": ["a query"],
    "groundingChunks": [{"web": {"uri": "https://example.com/page", "title": "example.com"}}],
    "groundingSupports": [],
}


def _candidate(asked: Asked, reply: Reply) -> JsonMap:
    behaviour = reply.behaviour
    candidate: JsonMap = {"index": 0, "finishReason": "STOP"}
    if behaviour.blocked == "answer":
        return candidate | {"finishReason": "SAFETY", "safetyRatings": [_RATING]}
    if behaviour.refusal:
        return candidate | {"finishReason": "PROHIBITED_CONTENT", "finishMessage": behaviour.refusal}
    parts: list[JsonMap] = [{"text": reply.text}] if reply.text else []
    parts += [{"functionCall": {"name": tool.name, "args": tool.args}} for tool in reply.calls]
    candidate["content"] = {"role": "model", **({"parts": parts} if parts else {})}
    if reply.incomplete:
        candidate["finishReason"] = "MAX_TOKENS"
    if "googleSearch" in asked.provider_tools:
        candidate["groundingMetadata"] = _GROUNDING
    return candidate


def _decode(body: bytes) -> GenerateRequest:
    try:
        return decode_strictly(_DECODER, body)
    except ModelApiError as error:
        if error.code == "unknown field":
            parent, _, name = (error.param or "").rpartition(".")
            place = f" at '{parent}'" if parent else ""
            message = f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
            raise ModelApiError(400, message) from error
        raise


def _contents(request: GenerateRequest) -> tuple[Found, list[str]]:
    """Return texts and media of the user's messages, and all other texts."""
    found = Found()
    others = [part.text for part in (request.system_instruction or Instruction(parts=[])).parts if part.text]
    for content in request.contents:
        for part in content.parts:
            kinds = [
                name
                for name in ("text", "inline_data", "file_data", "function_call", "function_response")
                if getattr(part, name) is not None
            ]
            if len(kinds) != 1:
                raise ModelApiError(
                    400,
                    "Unable to submit request because it must have exactly one data field in each part.",
                )
            if part.text is not None:
                (others if content.role == "model" else found.texts).append(part.text)
            if part.inline_data is not None:
                check_base64(part.inline_data.data, "contents.parts.inlineData.data")
                found.media.append(part.inline_data.mime_type)
            if part.file_data is not None:
                found.media.append(part.file_data.mime_type or "file")
    return found, others


def _mode(request: GenerateRequest) -> str:
    config = request.tool_config and request.tool_config.function_calling_config
    return config.mode if config else "AUTO"


def _functions(request: GenerateRequest) -> tuple[str, ...]:
    names = tuple(
        declared.name for tool in request.tools or () for declared in tool.function_declarations or ()
    )
    config = request.tool_config and request.tool_config.function_calling_config
    if config and not names:
        raise ModelApiError(
            400, "Function calling config is set without function_declarations.", param="toolConfig"
        )
    if config and config.allowed_function_names is not None:
        if config.mode not in {"ANY", "VALIDATED"}:
            raise ModelApiError(
                400, "Setting allowed_function_names is only supported when mode is ANY or VALIDATED."
            )
        if unknown := set(config.allowed_function_names) - set(names):
            raise ModelApiError(
                400, f"allowed_function_names contains undeclared functions: {sorted(unknown)}"
            )
        names = tuple(config.allowed_function_names)
    return () if config and config.mode == "NONE" else names


def _provider_tools(request: GenerateRequest) -> tuple[str, ...]:
    own = {"google_search": "googleSearch", "code_execution": "codeExecution", "url_context": "urlContext"}
    return tuple(
        shown
        for tool in request.tools or ()
        for name, shown in own.items()
        if getattr(tool, name) is not None
    )
