"""Failures grouped by kind: error name, step, HTTP status, and the message without its variable parts.

A thousand items that fail because of the same cause have a thousand messages, each with its own id, URL or
time. Folding replaces such parts by ``…``, so that they count as one kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from airflow_allma.common.printable import printable

__all__ = ["MAX_MESSAGE_LENGTH", "OTHER", "FailureKind", "fold", "kind_of", "short_message"]

MAX_MESSAGE_LENGTH: Final = 200
"""In characters, of a kind's message."""

_FOLDED: Final = "…"
_MAX_READ: Final = 1_000
_MAX_NAME: Final = 200
_ID_DIGITS: Final = 12

_URL: Final = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,9}://)([^\s/?#\"'<>`]*)([^\s\"'<>`]*)")
_PLAIN_SEGMENT: Final = re.compile(r"/[a-z]{2,20}(?=/.)")
_QUOTED: Final = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|"(?:[^"\\]|\\.)*"|`[^`]*`|“[^”]*”""", re.DOTALL
)
_WITH_DIGIT: Final = re.compile(r"(?<![\w%-])[\w%-]*\d[\w%-]*")
_HEXADECIMAL: Final = re.compile(r"\b[A-Fa-f]{8,}\b")
_SEVERAL: Final = re.compile(r"[+-]?…(?:[.,:+…-]*…)*")
# Words with digits that are no ids.
_WORDS: Final = frozenset(
    {"base64", "ec2", "http2", "ipv4", "ipv6", "md5", "oauth2", "s3", "sha1", "sha256", "utf-16", "utf-8"}
)


class FailureKind(msgspec.Struct, frozen=True, gc=False):
    """What failures of one cause have in common.

    Attributes:
        id: 12 hexadecimal digits that identify the kind; ``other`` for ``OTHER``.
        error_name: the error's name.
        step: the step that failed; empty if none did.
        status: the HTTP status of the response, if the error has one.
        message: the message, folded, with at most ``MAX_MESSAGE_LENGTH`` characters.
    """

    id: str
    error_name: str
    step: str
    status: int | None
    message: str


OTHER: Final = FailureKind("other", "", "", None, "other kinds of failures")
"""Counts what has more kinds than are kept."""


def kind_of(error: Mapping[str, Any]) -> FailureKind:
    """Return the kind of a failure.

    Args:
        error: the four fields of the error, of whatever types; a field that is missing counts as empty.
    """
    details = error.get("errorDetails")
    details = details if isinstance(details, Mapping) else {}
    name = _name(error.get("errorName"))
    step = _name(details.get("failedStepInstanceId"))
    status = _status(details.get("status"))
    message = fold(_text(error.get("errorMessage")), status)
    identity = msgspec.json.encode([name, step, status, message])
    return FailureKind(sha256(identity).hexdigest()[:_ID_DIGITS], name, step, status, message)


def fold(message: str, status: int | None = None) -> str:
    """Return a message with ``…`` in place of numbers, ids, dates, quoted strings, and paths in URLs.

    Args:
        message: only its first 1,000 characters count.
        status: an HTTP status, which stays as it is.
    """
    kept = None if status is None else str(status)

    def fold_word(match: re.Match[str]) -> str:
        word = match[0]
        return word if word == kept or word.lower() in _WORDS else _FOLDED

    text = " ".join(message[:_MAX_READ].split())
    text = _QUOTED.sub(_FOLDED, text)
    text = _URL.sub(_fold_url, text)
    text = _WITH_DIGIT.sub(fold_word, text)
    text = _HEXADECIMAL.sub(_FOLDED, text)
    text = _SEVERAL.sub(_FOLDED, text)
    return _cut(printable(text), MAX_MESSAGE_LENGTH)


def short_message(error: Mapping[str, Any]) -> str:
    """Return an error's message on one line, cut to ``MAX_MESSAGE_LENGTH`` characters."""
    text = " ".join(_text(error.get("errorMessage"))[:_MAX_READ].split())
    return _cut(printable(text), MAX_MESSAGE_LENGTH)


def _fold_url(match: re.Match[str]) -> str:
    scheme, host, rest = match.groups()
    host = host.rpartition("@")[2]
    if rest in {"", "/"}:
        return f"{scheme}{host}{rest}"
    # The first word of a path is a constant more often than not: /users/anna, /orders/o-17/lines.
    first = _PLAIN_SEGMENT.match(rest)
    return f"{scheme}{host}{first[0] if first else ''}/{_FOLDED}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + _FOLDED


def _name(value: Any) -> str:
    return _cut(printable(value[: 2 * _MAX_NAME]), _MAX_NAME) if isinstance(value, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)[:_MAX_READ]


def _status(value: Any) -> int | None:
    is_status = isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599
    return value if is_status else None
