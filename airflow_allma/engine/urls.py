"""Rendered URLs: checked, and encoded where a URL must be."""

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
# What may stand in a URL as it is: unreserved and reserved characters, and escapes that are there already.
_AS_IT_IS: Final = "!#$%&'()*+,/:;=?@[]~-._"
_HIGHEST_PORT: Final = 65535


def prepare_url(rendered: str, template: str) -> str:
    """The URL to send, out of a rendered template.

    Values stand in a URL as the template's author has put them there: nothing that is allowed in a URL is
    encoded, and nothing twice; spaces and letters outside of ASCII are percent-encoded; a fragment is not
    sent.

    Args:
        rendered: the template's text.
        template: its source, to tell the author's own words from values.

    Raises:
        PermanentStepError: it is no ``http`` or ``https`` URL with a host, it holds control characters, or a
            value in it would lead elsewhere than the template says (``..`` segments, user info).
    """
    text = rendered.strip(" ")
    if _CONTROL.search(text):
        raise _error(text, "holds line breaks or control characters; take them out of the values in it")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise _error(text, "must begin with http:// or https://")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise _error(text, "has no valid host; check the values in it")
    if authority["port"] and int(authority["port"]) > _HIGHEST_PORT:
        raise _error(text, f"has a port above {_HIGHEST_PORT}")
    _check_values(text, parts, template)
    try:
        return "".join(
            (
                parts["scheme"].lower(),
                "://",
                _encoded_authority(authority),
                _encoded(parts["path"]) or "/",
                _encoded(parts["query"] or ""),
            )
        )
    except ValueError as error:
        raise _error(text, f"cannot be encoded: {error}") from error


def _check_values(text: str, parts: re.Match[str], template: str) -> None:
    own_words = _EXPRESSION.sub("", template)
    begins_host = re.match(r"\s*https?://[^/?#{]", template, re.IGNORECASE)
    if begins_host and "@" in parts["authority"] and "@" not in own_words:
        raise _error(text, "has user info out of a value, which changes the host that the template names")
    if _DOTS.search(parts["path"]) and not _DOTS.search(own_words) and "{{" in template:
        raise _error(text, "has a '..' segment out of a value, which leads to another path")


def _encoded(text: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", text), safe=_AS_IT_IS)


def _encoded_authority(authority: re.Match[str]) -> str:
    user, host, port = authority["user"], authority["host"], authority["port"]
    if not host.isascii():
        from yarl import URL

        host = URL.build(scheme="http", host=host).raw_host or host
    text = f"{_encoded(user)}@{host}" if user is not None else host
    return f"{text}:{port}" if port else text


def _error(text: str, reason: str) -> PermanentStepError:
    shown = _CONTROL.sub(lambda found: repr(found[0])[1:-1], mask_url(text))
    details: dict[str, Any] = {"url": shown}
    return PermanentStepError(f"The URL {shown!r} {reason}.", details=details)
