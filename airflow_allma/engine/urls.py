"""Rendered URLs, validated and encoded."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from airflow_allma.engine.masking import mask_url
from airflow_allma.exceptions import PermanentStepError

__all__ = ["prepare_url"]

_PARTS: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?", re.IGNORECASE
)
_AUTHORITY: Final = re.compile(
    r"""(?:(?P<user>[^@\\]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s<>"{}|^`%\[\]@:\\,;]+)(?::(?P<port>\d{1,5})?)?"""
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_EXPRESSION: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_DOTS: Final = re.compile(r"(?:^|[/\\])(?:\.|%2e){2}(?=[/?#\\]|$)", re.IGNORECASE)
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Not encoded: unreserved and reserved characters, and existing escapes.
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~-._"
_MAX_PORT: Final = 65535


def prepare_url(rendered: str, template: str) -> str:
    """Return the URL to send, from a rendered template.

    Characters that are allowed in a URL are not encoded, and nothing is encoded twice. Spaces and non-ASCII
    characters are percent-encoded. The fragment is removed.

    Args:
        rendered: the rendered template.
        template: the template itself, to distinguish what its author wrote from values.

    Raises:
        PermanentStepError: it is not an ``http`` or ``https`` URL with a host, it contains control
            characters, or a value in it changes the host or path that the template names (``..`` segments,
            user info).
    """
    url = rendered.strip(" ")
    if _CONTROL.search(url):
        raise _error(url, "contains line breaks or control characters; remove them from the values in it")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise _error(url, "must begin with http:// or https://")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise _error(url, "does not have a valid host; check the values in it")
    if authority["port"] and int(authority["port"]) > _MAX_PORT:
        raise _error(url, f"has a port above {_MAX_PORT}")
    _validate_values(url, parts, template)
    try:
        return "".join(
            (
                parts["scheme"].lower(),
                "://",
                _encode_authority(authority),
                _encode(parts["path"]) or "/",
                _encode(parts["query"] or ""),
            )
        )
    except ValueError as error:
        raise _error(url, f"cannot be encoded: {error}") from error


def _validate_values(url: str, parts: re.Match[str], template: str) -> None:
    literal_parts = _EXPRESSION.sub("", template)
    names_host = re.match(r"\s*https?://[^/?#{]", template, re.IGNORECASE)
    if names_host and "@" in parts["authority"] and "@" not in literal_parts:
        raise _error(url, "has user info from a value, which changes the host that the template names")
    if _DOTS.search(parts["path"]) and not _DOTS.search(literal_parts) and "{{" in template:
        raise _error(url, "has a '..' segment from a value, which leads to another path")


def _encode(part: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", part), safe=_SAFE)


def _encode_authority(authority: re.Match[str]) -> str:
    user, host, port = authority["user"], authority["host"], authority["port"]
    if not host.isascii():
        from yarl import URL

        host = URL.build(scheme="http", host=host).raw_host or host
    encoded = f"{_encode(user)}@{host}" if user is not None else host
    return f"{encoded}:{port}" if port else encoded


def _error(url: str, reason: str) -> PermanentStepError:
    masked = _CONTROL.sub(lambda match: repr(match[0])[1:-1], mask_url(url))
    details: dict[str, Any] = {"url": masked}
    return PermanentStepError(f"The URL {masked!r} {reason}.", details=details)
