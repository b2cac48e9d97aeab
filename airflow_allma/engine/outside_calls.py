"""What a step did outside of the flow: HTTP requests, calls of AWS, e-mails, calls of tools."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from airflow_allma.common.aws_calls import AwsCall
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.masking import mask_url

__all__ = [
    "NO_CALLS",
    "AwsCall",
    "HttpCall",
    "MailCall",
    "McpCall",
    "ModelCall",
    "OutsideCall",
    "OutsideCalls",
    "describe",
]

_MAX_KEPT: Final = 10
_MAX_SHOWN_RECIPIENTS: Final = 5
_MAX_SHOWN: Final = 500
_LOCK: Final = threading.Lock()  # one for all: a lock for each step would cost more than they ever wait


class HttpCall(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request, with the redirects that it followed.

    Attributes:
        method: in upper case.
        url: as sent; ``describe`` masks it.
        status: the last response's status; None without a response.
        milliseconds: from sending the request to the last byte of the response.
        bytes_sent: size of the request's body.
        bytes_received: size of the response's body, decompressed.
        error: the exception's name; None if there is a complete response, whatever its status.
    """

    method: str
    url: str
    status: int | None
    milliseconds: float
    bytes_sent: int
    bytes_received: int
    error: str | None = None


class MailCall(msgspec.Struct, frozen=True, gc=False):
    """One e-mail handed to a mail service.

    Attributes:
        message_id: the service's or the message's id; empty if it was refused.
        recipients: all addresses, those of copies included.
        milliseconds: duration.
        error: the error's name; None for success.
    """

    message_id: str
    recipients: tuple[str, ...]
    milliseconds: float
    error: str | None = None


class McpCall(msgspec.Struct, frozen=True, gc=False):
    """One call of a tool of an MCP server.

    Attributes:
        server: the id of the server's connection.
        tool: the tool's name.
        milliseconds: duration, with the handshake and the list of tools if they were needed.
        error: the error's name; None for success.
    """

    server: str
    tool: str
    milliseconds: float
    error: str | None = None


class ModelCall(msgspec.Struct, frozen=True, gc=False):
    """The answer of a language model, besides the request that fetched it.

    Attributes:
        model: provider and model, ``OPENAI/gpt-4o-mini``.
        input_tokens: tokens that the provider counted in the request.
        output_tokens: those of the answer.
        is_cached: whether the answer is from an earlier call; it then took no tokens.
        milliseconds: duration, with waiting for the model's rate limit.
        error: always None: a failed request is recorded as what it was.
    """

    model: str
    input_tokens: int
    output_tokens: int
    is_cached: bool
    milliseconds: float
    error: str | None = None


OutsideCall = HttpCall | AwsCall | MailCall | McpCall | ModelCall


class OutsideCalls:
    """The calls of one execution of a step: the last ten, and how many there were.

    Safe to share between threads.
    """

    __slots__ = ("_dropped", "_kept")

    def __init__(self) -> None:
        self._kept: list[OutsideCall] = []
        self._dropped = 0

    def add(self, call: OutsideCall) -> None:
        """Append a call that has ended, successful or not."""
        # Appending needs no lock: nearly all steps make one call.
        self._kept.append(call)
        if len(self._kept) > 2 * _MAX_KEPT:
            with _LOCK:
                excess = len(self._kept) - _MAX_KEPT
                if excess > 0:
                    del self._kept[:excess]
                    self._dropped += excess

    def restore(self, last: Sequence[OutsideCall], count: int) -> None:
        """Add the calls of an earlier part of the execution: the last ones, and how many there were."""
        with _LOCK:
            self._kept[:0] = last
            self._dropped += count - len(last)

    @property
    def count(self) -> int:
        """How many calls were added."""
        with _LOCK:
            return self._dropped + len(self._kept)

    @property
    def last(self) -> Sequence[OutsideCall]:
        """The last ten calls, in the order in which they ended."""
        return tuple(self._kept[-_MAX_KEPT:])

    def lines(self) -> list[str]:
        """Return one line for each call that is kept, and one that counts those that are not."""
        last = self.last
        omitted = self.count - len(last)
        beginning = [f"{omitted} earlier calls are not shown"] if omitted else []
        return beginning + [describe(call) for call in last]


class _NoCalls(OutsideCalls):
    """The calls of a step that makes none; all such steps share it."""

    __slots__ = ()

    def add(self, call: OutsideCall) -> None:
        """Do nothing: a step that never waits has no calls to report."""


NO_CALLS: Final = _NoCalls()
"""The calls of every step that never waits."""


def describe(call: OutsideCall) -> str:
    """Return one line about a call, for logs: secrets are masked, control characters escaped."""
    if isinstance(call, HttpCall):
        line = _describe_http(call)
    elif isinstance(call, AwsCall):
        line = _describe_aws(call)
    elif isinstance(call, MailCall):
        line = _describe_mail(call)
    elif isinstance(call, McpCall):
        line = _describe_mcp(call)
    else:
        line = _describe_model(call)
    return printable(line)


def _describe_http(call: HttpCall) -> str:
    result = call.error if call.status is None else f"{call.status}"
    if call.status is not None and call.error is not None:
        result = f"{call.error} after {call.status}"
    url = shortened(mask_url(call.url), _MAX_SHOWN)
    return (
        f"{result} from {call.method} {url} in {call.milliseconds:.0f} ms, "
        f"{call.bytes_sent} bytes sent, {call.bytes_received} received"
    )


def _describe_aws(call: AwsCall) -> str:
    resource = f" {shortened(mask_url(call.resource), _MAX_SHOWN)}" if call.resource else ""
    request = f", request {call.request_id}" if call.request_id else ""
    result = "done" if call.error is None else call.error
    return f"{result}: {call.service} {call.operation}{resource} in {call.milliseconds:.0f} ms{request}"


def _describe_mail(call: MailCall) -> str:
    shown = ", ".join(call.recipients[:_MAX_SHOWN_RECIPIENTS])
    more = len(call.recipients) - _MAX_SHOWN_RECIPIENTS
    others = f" and {more} more" if more > 0 else ""
    result = "sent" if call.error is None else call.error
    message = f" {call.message_id}" if call.message_id else ""
    return (
        f"{result}: e-mail{message} to {shortened(shown, _MAX_SHOWN)}{others} in {call.milliseconds:.0f} ms"
    )


def _describe_mcp(call: McpCall) -> str:
    result = "done" if call.error is None else call.error
    tool, server = (shortened(name, _MAX_SHOWN) for name in (call.tool, call.server))
    return f"{result}: MCP tool {tool} of {server} in {call.milliseconds:.0f} ms"


def _describe_model(call: ModelCall) -> str:
    model = shortened(call.model, _MAX_SHOWN)
    if call.is_cached:
        return f"cached: answer of {model} in {call.milliseconds:.0f} ms"
    tokens = f"{call.input_tokens} tokens in, {call.output_tokens} out"
    return f"answered: {model} in {call.milliseconds:.0f} ms, {tokens}"
