"""Chat completions as OpenAI documents them, and as Azure serves them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from demo.model_servers.behaviour import Behaviour
from demo.model_servers.exchange import (
    Asked,
    Call,
    Found,
    Limits,
    LimitState,
    ModelApiError,
    Reply,
    bearer_token,
    check_base64,
    decode_strictly,
    identifier,
)
from demo.model_servers.openai_request import (
    ChatRequest,
    ChosenFunction,
    FilePart,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    TextPart,
    User,
)

__all__ = ["OpenAiDialect"]

JsonMap = dict[str, Any]
_DECODER = msgspec.json.Decoder(ChatRequest)
# status -> type, code and message
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", None, "You do not have access to this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


class OpenAiDialect:
    """Chat completions of OpenAI and, with `azure`, of Azure."""

    def __init__(self, *, azure: bool = False) -> None:
        self._is_azure = azure

    def authorize(self, call: Call, key: str | None) -> str:
        given = bearer_token(call)
        if self._is_azure:
            given = given or call.headers.get("api-key", "")
        if given and key in {None, given}:
            return given
        if self._is_azure:
            raise ModelApiError(
                401, "Access denied due to invalid subscription key or wrong API endpoint.", code="401"
            )
        if given:
            raise ModelApiError(401, f"Incorrect API key provided: {given[:3]}***{given[-4:]}.")
        raise ModelApiError(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            code="none",
        )

    def read(self, call: Call) -> Asked:
        if self._is_azure and "deployment" in call.place and not call.query.get("api-version"):
            raise ModelApiError(404, "Resource not found", code="404")
        request = _decode(call.body)
        if request.stream:
            raise ModelApiError(400, "This server does not stream.", param="stream")
        model = call.place.get("deployment") or request.model
        if not model:
            raise ModelApiError(400, "you must provide a model parameter")
        users, system = _contents(request)
        _check_format(request, [*users.texts, *system])
        return users.asked(
            system,
            model=model,
            functions=_functions(request),
            provider_tools=("web_search",) if request.web_search_options is not None else (),
            needs_tool=isinstance(request.tool_choice, ChosenFunction) or request.tool_choice == "required",
            max_tokens=request.max_completion_tokens or request.max_tokens,
            json_output=isinstance(request.response_format, JsonObjectFormat | JsonSchemaFormat),
            sampling=frozenset(
                name
                for name in ("temperature", "top_p", "max_tokens")
                if getattr(request, name) not in ({None, 1} if name != "max_tokens" else {None})
            ),
        )

    def check(self, asked: Asked, behaviour: Behaviour) -> None:
        if behaviour.reasoning and "max_tokens" in asked.sampling:
            raise ModelApiError(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                code="unsupported_parameter",
                param="max_tokens",
            )
        if behaviour.reasoning and (names := asked.sampling & {"temperature", "top_p"}):
            name = min(names)
            raise ModelApiError(
                400,
                f"Unsupported value: '{name}' does not support this value with this model. Only the default "
                "(1) value is supported.",
                code="unsupported_value",
                param=name,
            )
        if (allowed := asked.exceeded(behaviour)) is not None:
            raise ModelApiError(
                400,
                f"max_tokens is too large: {asked.max_tokens}. This model supports at most {allowed} "
                f"completion tokens, whereas you provided {asked.max_tokens}.",
                code="invalid_value",
                param="max_tokens",
            )
        if asked.media and not behaviour.media:
            raise ModelApiError(
                400, "Invalid content type. image_url is only supported by certain models.", param="messages"
            )
        if behaviour.blocked == "prompt":
            code = "content_filter" if self._is_azure else "content_policy_violation"
            raise ModelApiError(400, "The prompt was filtered.", code=code, param="prompt")

    def answer(self, asked: Asked, reply: Reply, call: Call) -> Mapping[str, Any]:
        behaviour = reply.behaviour
        message: JsonMap = {
            "role": "assistant",
            "content": None if reply.calls or behaviour.refusal else reply.text,
            "refusal": behaviour.refusal or None,
            "annotations": [_CITATION] if asked.provider_tools else [],
        }
        if reply.calls:
            message["tool_calls"] = [
                {
                    "id": identifier("call_", call.number * 100 + index),
                    "type": "function",
                    "function": {"name": tool.name, "arguments": msgspec.json.encode(tool.args).decode()},
                }
                for index, tool in enumerate(reply.calls)
            ]
        body: JsonMap = {
            "id": identifier("chatcmpl-", call.number),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)},
            ],
            "service_tier": "default",
            "system_fingerprint": "fp_0",
        }
        if behaviour.usage:
            body["usage"] = _usage(reply)
        if self._is_azure:
            body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
        return body

    def error(self, error: ModelApiError, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        kind, code, message = _ERRORS.get(error.status, _ERRORS[500 if error.status >= 500 else 400])
        headers = {"x-request-id": identifier("req_", call.number)}
        if self._is_azure:
            shown = {"code": error.code or code or str(error.status), "message": str(error) or message}
            return {"error": shown}, headers
        if error.code == "insufficient_quota":
            kind = "insufficient_quota"
        shown_code = None if error.code == "none" else error.code or code
        body = {"message": str(error) or message, "type": kind, "param": error.param, "code": shown_code}
        return {"error": body}, headers

    def limit_headers(self, limits: Limits) -> Mapping[str, str]:
        headers = {}
        for name, state in (("requests", limits.requests), ("tokens", limits.tokens)):
            if state is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
                headers[f"x-ratelimit-reset-{name}"] = _duration(state)
        return headers


_CITATION = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 1, "title": "A page", "url": "https://example.com/page"},
}


def _decode(body: bytes) -> ChatRequest:
    try:
        return decode_strictly(_DECODER, body)
    except ModelApiError as error:
        if error.code == "unknown field":
            message = f"Unknown parameter: '{error.param}'."
            raise ModelApiError(400, message, code="unknown_parameter", param=error.param) from error
        raise


def _contents(request: ChatRequest) -> tuple[Found, list[str]]:
    """Return texts and media of the user's messages, and all other texts."""
    found = Found()
    others: list[str] = []
    for message in request.messages:
        content = message.content or ""
        parts = [content] if isinstance(content, str) else content
        for part in parts:
            if isinstance(part, str | TextPart):
                text = part if isinstance(part, str) else part.text
                (found.texts if isinstance(message, User) else others).append(text)
            else:
                found.media.append(_medium(part))
    return found, others


def _medium(part: ImagePart | FilePart) -> str:
    if isinstance(part, ImagePart):
        url = part.image_url.url
        if url.startswith("data:"):
            return _data_url(url, "image_url", ("image/png", "image/jpeg", "image/gif", "image/webp"))
        if not url.startswith(("http://", "https://")):
            raise ModelApiError(400, f"Invalid image URL: '{url[:40]}'.", code="invalid_image_url")
        return "image/*"
    if part.file.file_data is not None:
        if not part.file.filename:
            raise ModelApiError(
                400, "Missing required parameter: 'messages[0].content[0].file.filename'.", param="filename"
            )
        return _data_url(part.file.file_data, "file_data", ("application/pdf",))
    if part.file.file_id is None:
        raise ModelApiError(400, "Missing required parameter: 'file.file_id'.", param="file_id")
    return "file"


def _data_url(url: str, name: str, types: tuple[str, ...]) -> str:
    head, comma, data = url.partition(",")
    mime_type, semicolon, coding = head.removeprefix("data:").partition(";")
    if not comma or not semicolon or coding != "base64" or mime_type not in types:
        raise ModelApiError(400, f"Invalid {name}: a data URL of {', '.join(types)} is expected.", param=name)
    check_base64(data, name)
    return mime_type


def _check_format(request: ChatRequest, texts: list[str]) -> None:
    if isinstance(request.response_format, JsonObjectFormat) and not any(
        "json" in text.lower() for text in texts
    ):
        raise ModelApiError(
            400,
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.",
            param="messages",
        )


def _functions(request: ChatRequest) -> tuple[str, ...]:
    names = tuple(tool.function.name for tool in request.tools or ())
    if request.tool_choice is not None and not names:
        raise ModelApiError(
            400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
        )
    if request.parallel_tool_calls is not None and not names:
        raise ModelApiError(
            400, "'parallel_tool_calls' is only allowed when 'tools' are specified.", param="tool_choice"
        )
    if request.tool_choice == "none":
        return ()
    if isinstance(request.tool_choice, ChosenFunction):
        chosen = request.tool_choice.function.name
        if chosen not in names:
            raise ModelApiError(
                400,
                f"Invalid value for 'tool_choice': no function '{chosen}' in 'tools'.",
                param="tool_choice",
            )
        return (chosen,)
    return names


def _finish(reply: Reply) -> str:
    if reply.behaviour.blocked == "answer":
        return "content_filter"
    if reply.calls:
        return "tool_calls"
    return "length" if reply.incomplete else "stop"


def _usage(reply: Reply) -> JsonMap:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.behaviour.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reply.behaviour.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _duration(state: LimitState) -> str:
    """Return seconds as OpenAI writes them: ``20ms``, ``1.5s``, ``6m0s``."""
    seconds = state.reset_seconds
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, seconds = divmod(seconds, 60)
    return f"{int(minutes)}m{seconds:.3g}s" if minutes else f"{seconds:.4g}s"
