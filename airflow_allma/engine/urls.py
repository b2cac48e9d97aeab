"""Rendered URLs, validated and encoded.

A rendered URL is compared with its template, character by character: each character that the author wrote
must keep its place (host, port, path, query) whatever the values next to it contain.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.url_parts import Char, RenderedUrl, part_boundaries
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import SlottedTemplate, Span
from airflow_allma.expressions.syntax_tree import SLOT

__all__ = ["InvalidUrlError", "PreparedUrl", "origin_of", "plain_url", "prepare_url", "show_url"]

_PARTS: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_AUTHORITY: Final = re.compile(
    r"""(?:(?P<user>[^@\\]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s<>"{}|^`%\[\]@:\\,;]+)(?::(?P<port>\d{1,5})?)?"""
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# What separates segments for some servers: they decode first, or take a backslash for a slash.
_SEPARATOR: Final = re.compile(r"[/\\]|%2f|%5c", re.IGNORECASE)
_DOT: Final = re.compile(r"%2e", re.IGNORECASE)
_HARMLESS_BASE: Final = re.compile(r"https?://[\w.:-]+(?:/[\w~-]+)*", re.ASCII)
_HARMLESS_START: Final = re.compile(r"https?://[\w.:-]+/", re.ASCII)
_HARMLESS_VALUE: Final = re.compile(r"\.*[\w~-][\w.~-]*", re.ASCII)
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Not encoded: unreserved and reserved characters, and existing escapes.
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~-._"
_MAX_PORT: Final = 65535
_MAX_TEXTS: Final = 2000
_PART_NAMES: Final = ("scheme", "user info", "host", "port", "path", "query", "fragment")


class InvalidUrlError(PermanentStepError):
    """A rendered URL cannot be sent.

    Attributes:
        reason: why, without the URL and its values.
    """

    def __init__(self, shown: str, reason: str) -> None:
        details: dict[str, Any] = {"url": shown}
        super().__init__(f"The URL {shown!r} {reason}.", details=details)
        self.reason = reason


class PreparedUrl(msgspec.Struct, frozen=True):
    """A URL to send.

    Attributes:
        url: absolute and percent-encoded.
        warnings: what is probably not meant, one sentence each, without secrets.
    """

    url: str
    warnings: tuple[str, ...] = ()


def origin_of(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and port of a URL, so that those of two URLs can be compared."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def prepare_url(spans: Sequence[Span]) -> PreparedUrl:
    """Return the URL to send, from a rendered template.

    Characters that are allowed in a URL are not encoded, and nothing is encoded twice. Spaces and non-ASCII
    characters are percent-encoded, and so are ``?`` and ``#`` of a value within the path and ``#`` of a value
    within the query. The fragment is removed.

    A value can be the whole URL, its beginning (``{{base}}/x``), or all that follows the host.

    Args:
        spans: the rendered template, the author's characters apart from values.

    Raises:
        InvalidUrlError: it is not an ``http`` or ``https`` URL with a host, it contains control
            characters, or a value in it changes what the template names: scheme, user info, host, port, path
            or query; or it adds a ``.`` or ``..`` segment.
    """
    plain = _prepare_plain(spans)
    return _prepare(spans) if plain is None else PreparedUrl(plain)


def _prepare(spans: Sequence[Span]) -> PreparedUrl:
    written = "".join(span.text for span in spans).strip(" ")
    if _CONTROL.search(written):
        raise _error(written, "contains line breaks or control characters; remove them from the values in it")
    parts = _PARTS.fullmatch(written)
    if parts is None:
        raise _error(written, "must begin with http:// or https://")
    url = written
    warnings: list[str] = []
    rendered = None
    if not _is_harmless(spans):
        rendered = RenderedUrl.of(spans, written.index(":") + 3)
        warnings = _empty_segments(rendered)
        if rendered.encode_delimiters():
            warnings.append(
                "a value in the path of the URL contains '?' or '#', sent as %3F or %23; to begin the query, "
                "write the '?' into the template"
            )
        url = rendered.url
        parts = _PARTS.fullmatch(url)
    authority = _AUTHORITY.fullmatch(parts["authority"]) if parts is not None else None
    if parts is None or authority is None:
        raise _error(url, "does not have a valid host; check the values in it")
    if authority["port"] and int(authority["port"]) > _MAX_PORT:
        raise _error(url, f"has a port above {_MAX_PORT}")
    if rendered is not None:
        _check_parts(rendered, parts)
        _check_segments(rendered, parts)
    try:
        return PreparedUrl(
            "".join(
                (
                    parts["scheme"].lower(),
                    "://",
                    _encode_authority(authority),
                    _encode(parts["path"]) or "/",
                    _encode(parts["query"] or ""),
                )
            ),
            tuple(warnings),
        )
    except ValueError as error:
        raise _error(url, f"cannot be encoded: {error}") from error


def _prepare_plain(spans: Sequence[Span]) -> str | None:
    """Return a URL whose values are plain words, which nearly all are; None if it needs a closer look.

    Such values need no encoding and change nothing, so that the text around them is prepared only once.
    """
    values = [span[0] for span in spans[2::2]]
    return _joined(spans[0][0], tuple([span[0] for span in spans[1::2]]), values)


def plain_url(template: SlottedTemplate) -> Callable[[Any], str | None]:
    """Return a function that does the same as rendering a template and ``prepare_url``, for plain values.

    It returns None if some value needs a closer look: nearly all URLs need none.
    """
    texts, find = template.texts, template.plain_values
    if texts is None or find is None or template.pattern is None:
        return lambda _: None
    own_texts = tuple(text.text for text in texts)
    begins_with_value = template.pattern.startswith(SLOT)

    def prepare(root: Any) -> str | None:
        values = find(root)
        if values is None:
            return None
        base = values.pop(0) if begins_with_value else ""
        return _joined(base, own_texts, values)

    return prepare


def _joined(base: str, own_texts: tuple[str, ...], values: Sequence[str]) -> str | None:
    """Return the URL of a value, and of texts with values after them; None if it needs a closer look."""
    for value in values:
        if not _HARMLESS_VALUE.fullmatch(value):
            return None
    texts = _prepared_texts(base, own_texts)
    if texts is None:
        return None
    parts: list[str] = [""] * (len(texts) + len(values))
    parts[::2], parts[1::2] = texts, values
    return "".join(parts)


@lru_cache(maxsize=256)
def _prepared_texts(base: str, texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the encoded texts in front of the values of a URL; None if they need care.

    Args:
        base: the value with which the URL begins.
        texts: the author's texts, each but the last with a value after it.
    """
    if not texts or len(base) + sum(map(len, texts)) > _MAX_TEXTS:
        return None
    if any("#" in text or text != text.strip(" ") or _CONTROL.search(text) for text in (base, *texts)):
        return None
    spans = [Span(base, is_authored=False)]
    for text in texts:
        spans += [Span(text, is_authored=True), Span("v", is_authored=False)]
    if not _is_harmless(spans[:-1]):
        return None
    try:
        return (_prepare(spans[:2]).url, *map(_encode, texts[1:]))
    except InvalidUrlError:
        return None


def _is_harmless(spans: Sequence[Span]) -> bool:
    """Return whether no value can change the URL's structure: the fast path, for nearly all URLs.

    The author, or the value that the URL begins with, gives everything up to the first slash of the path; no
    other value is empty, consists of dots, or contains a delimiter.
    """
    base = spans[0].text
    following = spans[1].text if len(spans) > 1 else ""
    if base:
        if not (_HARMLESS_BASE.fullmatch(base) and following.startswith("/")):
            return False
    elif not _HARMLESS_START.match(following):
        return False
    # An author's "%2" and a value's "e" would be a dot.
    if any("%" in span.text for span in spans[1::2]):
        return False
    return all(_HARMLESS_VALUE.fullmatch(span.text) for span in spans[2::2])


def _check_parts(rendered: RenderedUrl, parts: re.Match[str]) -> None:
    """Check that the author's characters are in the parts in which the template has them."""
    url, origins = rendered.url, rendered.origins
    if rendered.moves_scheme:
        raise _error(url, "has a scheme and a host from a value, in front of those that the template names")
    start, end = parts.span("authority")
    at = url.rfind("@", start, end)
    if at >= 0 and origins[at] == Char.VALUE and any(origins[start:at]) | any(origins[at:end]):
        raise _error(url, "has user info from a value, which changes the host that the template names")
    skeleton, positions = rendered.skeleton()
    expected = part_boundaries(skeleton, rendered.skeleton_authority)
    actual = part_boundaries(url, rendered.authority)
    for number, position in enumerate(positions):
        was, now = bisect_right(expected, number), bisect_right(actual, position)
        # The skeleton has a placeholder wherever a value is: position -1.
        if position >= 0 and was != now:
            raise _error(url, f"has a value that changes the {_PART_NAMES[was]} that the template names")
    _check_extension(rendered, actual)


def _check_extension(rendered: RenderedUrl, boundaries: Sequence[int]) -> None:
    """Check that no value continues a host or a port that is complete in the template."""
    url, origins = rendered.url, rendered.origins
    _, host, port, path, *_ = boundaries
    for part, start, end, is_complete in (
        ("host", host, port, _is_whole_host),
        ("port", port + 1, path, str.isdigit),
    ):
        if start >= end or origins[end - 1] != Char.VALUE:
            continue
        written = max((index for index in range(start, end) if origins[index]), default=-1)
        if written >= 0 and is_complete(url[start : written + 1]):
            raise _error(
                url,
                f"has a value that continues the {part} that the template names; write a '/' into the "
                "template in front of the value",
            )


def _is_whole_host(host: str) -> bool:
    return ("." in host or host.lower() == "localhost") and host[-1] not in ".-_"


def _check_segments(rendered: RenderedUrl, parts: re.Match[str]) -> None:
    url, origins = rendered.url, rendered.origins
    start, end = parts.span("path")
    cuts = [match.span() for match in _SEPARATOR.finditer(url, start, end)]
    for (before, begin), (last, after) in pairwise([*cuts, (end, end)]):
        # "..;x" is ".." for servers that remove parameters of segments.
        segment = _DOT.sub(".", url[begin:last].partition(";")[0])
        if segment not in {".", ".."}:
            continue
        written_by = origins[before:after]
        # Two values around "..", both empty, make a segment of it that the template does not have.
        has_gap = any(begin <= gap <= last for gap in rendered.gaps)
        if has_gap or Char.VALUE in written_by or (segment == ".." and Char.BASE in written_by):
            raise _error(url, f"has a {segment!r} segment from a value, which leads to another path")


def _empty_segments(rendered: RenderedUrl) -> list[str]:
    numbers = rendered.empty_segments()
    if not numbers:
        return []
    which = ", ".join(map(str, numbers[:5]))
    warning = f"the URL {show_url(rendered.url)!r} has an empty segment (number {which}): a value is missing"
    return [warning]


def _encode(part: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", part), safe=_SAFE)


def _encode_authority(authority: re.Match[str]) -> str:
    user, host, port = authority["user"], authority["host"], authority["port"]
    if not host.isascii():
        from yarl import URL

        host = URL.build(scheme="http", host=host).raw_host or host
    encoded = f"{_encode(user)}@{host}" if user is not None else host
    return f"{encoded}:{port}" if port else encoded


def show_url(url: str) -> str:
    """Return a URL as messages show it: on one line, secrets masked by the names of parameters."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], mask_url(url))


def _error(url: str, reason: str) -> InvalidUrlError:
    return InvalidUrlError(show_url(url), reason)
