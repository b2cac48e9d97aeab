"""Step errors for failed requests to MCP servers."""

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
"""Maximum number of characters of a server's message that errors show."""

_METHOD_NOT_FOUND: Final = -32601
_REFUSED: Final = frozenset({401, 403})


class SessionLostError(TransientStepError):
    """The server no longer knows the session, so it did nothing: the request can be sent in a new one."""


@dataclass(frozen=True, slots=True)
class McpFailure:
    """A request without a valid response.

    Attributes:
        reason: what happened, without secrets; messages continue with "from" and the server's name.
        is_transient: whether the same request may succeed later.
        status: the HTTP status of the response; None if there is none.
        is_forgotten: whether the server no longer knows the session.
        retry_after: seconds that the server asks to wait; None if it does not.
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
    """Return the failure for a response with a status of 400 or higher.

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
    # Old servers respond with 400, not 404, for an unknown session.
    is_forgotten = in_session and code != _METHOD_NOT_FOUND
    is_forgotten &= status == 404 or (status == 400 and "session" in shown.lower())
    advice = ""
    if status in _REFUSED:
        advice = "Check the credentials in its connection."
    elif status in {404, 405} and not in_session:
        advice = "Check the path of its URL."
    return McpFailure(reason, status >= 500 or status == 429, status, is_forgotten, retry_after, advice)


def protocol_error(server: McpServer, masks: SecretMasks, what: str, code: int, message: str) -> StepError:
    """Return the step error for a JSON-RPC error.

    Args:
        server: the server that sent it.
        masks: mask what it echoes.
        what: the request, such as ``the list of tools``.
        code: the JSON-RPC code.
        message: the server's message.
    """
    shown = masks.beginning(message.encode(errors="replace"), MAX_SHOWN).rstrip(".")
    return PermanentStepError(
        f"{_capital(server.name)} refused {what}: {shown} (code {code}).",
        details={"connection": server.id, "code": code},
    )


def no_answer(server: McpServer, seconds: float) -> StepError:
    """Return the step error for a request without a response in time; ``seconds`` is the limit."""
    return TransientStepError(
        f"No answer within {seconds:g} seconds from {server.name} ({server.shown_url}). Increase "
        "customConfig.timeoutMs if it needs more time.",
        details={"connection": server.id},
    )


def repeated(error: StepError) -> StepError:
    """Return a copy of an error, as several steps can wait for the same request and each needs its own."""
    if isinstance(error, TransientStepError):
        return type(error)(error.message, details=error.details, retry_after=error.retry_after)
    return type(error)(error.message, details=error.details, error_name=error.error_name)


def first_error(error: BaseException) -> BaseException:
    """Return the first error in a group that is not a cancellation; the error itself if there is none."""
    return next(_leaves(error), error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    elif isinstance(error, Exception):
        yield error


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
