"""How a model of the fake servers answers. Everything can also be set in JSON, with the same names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = ["Behaviour", "CalledTool", "Fault", "Limit", "parse_behaviours"]

Fault = Literal["html", "cut", "reset", "hang", "empty", "garbage"]
"""What a server can do in place of an answer.

``html``: an HTML page with status 200. ``cut``: half of the answer, then the end of the connection.
``reset``: the end of the connection. ``hang``: nothing while the client waits. ``empty``: no body.
``garbage``: JSON of another kind.
"""

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of what can be configured."""


class CalledTool(Settings, frozen=True):
    """A function that the model asks its caller to call."""

    name: str
    args: Any = msgspec.field(default_factory=dict)


class Limit(Settings, frozen=True):
    """How many requests a model serves in a period; it responds to more with 429.

    Attributes:
        requests: in one period; None for no limit.
        tokens: of prompts, in one period; None for no limit.
        seconds: of a period.
        window: whether a new period begins at fixed times; otherwise a token bucket fills steadily.
        headers: whether every response has the vendor's rate limit headers, if it has any.
        retry_after: whether 429 responses say when to try again.
    """

    requests: Annotated[int, msgspec.Meta(gt=0)] | None = None
    tokens: Annotated[int, msgspec.Meta(gt=0)] | None = None
    seconds: Positive = 1.0
    window: bool = False
    headers: bool = False
    retry_after: bool = True


class Behaviour(Settings, frozen=True):
    """How one model answers.

    The text of an answer is that of the first keyword in the prompt, else the prompt itself with ``echo``,
    else ``answer``.

    Attributes:
        latency: seconds before each answer.
        answer: the text; empty for an answer without text.
        keywords: keyword -> text of the answer. Upper and lower case are the same.
        keywords_after: where in the prompt the keywords count: after the last occurrence of this string.
        echo: whether the answer repeats the prompt.
        wrap: how the text is sent: as it is, in a code fence, in prose, or without its last third.
        tool_calls: functions that the model calls if the request has tools.
        refusal: the model's words when it refuses.
        blocked: whether a filter of the vendor blocks the prompt or the answer.
        max_words: length at which an answer ends incomplete; so does the maximum of a request.
        outcomes: an outcome for each request in turn, a status or a fault; the last one repeats.
            ``(500, 200)``: the first request fails. ``(503,)``: all fail.
        error_rate: share of requests, evenly spread, that fail with ``error_status``.
        error_status: see ``error_rate``.
        error_message: the message of errors, in place of the vendor's.
        error_code: the vendor's code of errors, in place of the usual one.
        echo_key: whether error messages repeat the key of the request.
        retry_after: header ``Retry-After`` of errors.
        limit: how many requests are served.
        cached_tokens: tokens of the prompt that are reported as cached.
        reasoning_tokens: tokens of reasoning that are reported with the answer.
        usage: whether tokens are reported.
        max_output_tokens: largest maximum that a request can ask for.
        reasoning: whether the model takes no ``max_tokens`` and no temperature (OpenAI).
        one_sampling_parameter: whether temperature and top_p exclude each other (Anthropic, Converse).
        json_with_functions: whether JSON output and functions can be combined (Gemini).
        media: whether the model takes pictures and documents.
    """

    latency: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    answer: str = "OK"
    keywords: dict[str, str] = msgspec.field(default_factory=dict)
    keywords_after: str = ""
    echo: bool = False
    wrap: Literal["none", "fence", "prose", "cut"] = "none"
    tool_calls: tuple[CalledTool, ...] = ()
    refusal: str = ""
    blocked: Literal["", "prompt", "answer"] = ""
    max_words: int | None = None
    outcomes: tuple[int | Fault, ...] = ()
    error_rate: Share = 0.0
    error_status: int = 500
    error_message: str = ""
    error_code: str = ""
    echo_key: bool = False
    retry_after: str = ""
    limit: Limit | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage: bool = True
    max_output_tokens: int | None = None
    reasoning: bool = False
    one_sampling_parameter: bool = False
    json_with_functions: bool = True
    media: bool = True


def parse_behaviours(body: bytes) -> dict[str, Behaviour]:
    """Return model -> behaviour from JSON.

    Raises:
        msgspec.MsgspecError: it is not valid JSON, or a field is unknown or wrong.
    """
    return msgspec.json.decode(body, type=dict[str, Behaviour])
