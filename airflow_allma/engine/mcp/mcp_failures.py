"""What failed requests to MCP servers mean: step errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

__all__ = [
    "MAX_SHOWN",
    "McpFailure",
    "SessionLostError",
    "failure_of_status",
    "first_error",
    "no_answer",
    "protocol_error",
    "repeated",
]

MAX_SHOWN: Final = 500
"""Characters that are shown of what a server says."""

_METHOD_NOT_FOUND: Final = -32601
_REFUSED: Final = frozenset({401, 403})


class SessionLostError(TransientStepError):
    """The server no longer knows the session, so it did nothing: the request can be sent in a new one."""


@dataclass(frozen=True, slots=True)
class McpFailure:
    """A request that has no answer of the protocol.

    Attributes:
        reason: what happened, without secrets; it stands in front of the server's name.
        is_transient: whether the same request may succeed later.
        status: the status of the response; None without one.
        is_forgotten: whether the server no longer knows the session.
        retry_after: seconds that the server asks to wait.
        advice: what to do about it; may be empty.
    """

    reason: str
    is_transient: bool
    status: int | None = None
    is_forgotten: bool = False
    retry_after: float | None = None
    advice: str = ""

    def as_error(self, server: McpServer) -> StepError:
        """Return the failure as the error of a step."""
        message = f"{self.reason} from {server.name} ({server.shown_url})."
        if self.advice:
            message += f" {self.advice}"
        details: dict[str, Any] = {"connection": server.id}
        if self.status is not None:
            details["status"] = self.status
        if self.is_forgotten:
            return SessionLostError(message, details=details)
        if self.is_transient:
            return TransientStepError(message, details=details, retry_after=self.retry_after)
        return PermanentStepError(message, details=details)


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Answer(msgspec.Struct):
    error: _Error


def failure_of_status(
    status: int, body: bytes, masks: SecretMasks, *, in_session: bool, retry_after: float | None
) -> McpFailure:
    """Return what a response with a status from 400 on means.

    Args:
        status: the status.
        body: the beginning of its body.
        masks: mask what it echoes.
        in_session: whether the request named a session.
        retry_after: seconds that the server asks to wait.
    """
    code = 0
    try:
        error = msgspec.json.decode(body, type=_Answer).error
        code, body = error.code, error.message.encode(errors="replace")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    shown = masks.beginning(body, MAX_SHOWN)
    reason = f"{status} ({shown})" if shown else f"{status} with an empty body"
    # Servers of the first versions answer 400 for a session that they do not know.
    is_forgotten = in_session and code != _METHOD_NOT_FOUND
    is_forgotten &= status == 404 or (status == 400 and "session" in shown.lower())
    advice = ""
    if status in _REFUSED:
        advice = "Check the credentials in its connection."
    elif status in {404, 405} and not in_session:
        advice = "Check the path of its URL."
    return McpFailure(reason, status >= 500 or status == 429, status, is_forgotten, retry_after, advice)


def protocol_error(server: McpServer, masks: SecretMasks, what: str, code: int, message: str) -> StepError:
    """Return an error of the protocol as the error of a step.

    Args:
        server: the server that sent it.
        masks: mask what it echoes.
        what: what was asked for.
        code: the code of JSON-RPC.
        message: the server's message.
    """
    shown = masks.beginning(message.encode(errors="replace"), MAX_SHOWN).rstrip(".")
    return PermanentStepError(
        f"{_capital(server.name)} refused {what}: {shown} (code {code}).",
        details={"connection": server.id, "code": code},
    )


def no_answer(server: McpServer, seconds: float) -> StepError:
    """Return the error of a request that has no answer in time."""
    return TransientStepError(
        f"No answer within {seconds:g} seconds from {server.name} ({server.shown_url}). Increase "
        "customConfig.timeoutMs if it needs more time.",
        details={"connection": server.id},
    )


def repeated(error: StepError) -> StepError:
    """Return an error anew: several steps can wait for the same thing, and each has its own error."""
    if isinstance(error, TransientStepError):
        return type(error)(error.message, details=error.details, retry_after=error.retry_after)
    return type(error)(error.message, details=error.details, error_name=error.error_name)


def first_error(error: BaseException) -> BaseException:
    """Return what a group of errors is about: the first one in it that is no cancellation."""
    return next(_leaves(error), error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    elif isinstance(error, Exception):
        yield error


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
