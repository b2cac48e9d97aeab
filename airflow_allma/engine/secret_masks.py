"""Masking of known secrets, in each form in which texts can contain them."""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from airflow_allma.engine.masking import MASK, MAX_SHOWN_DEPTH

__all__ = ["MIN_SECRET_LENGTH", "SecretMasks", "forms_of"]

MIN_SECRET_LENGTH: Final = 4
"""Shorter values are not searched for: they would mask a part of every text."""

_MAX_FORMS: Final = 5_000
_CUT: Final = "..."
# Values of settings, which any text contains.
_ORDINARY: Final = frozenset({"true", "false", "null", "none"})
_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SENT_IN_PATH: Final = "!$%&'()*+,/:;=@[]~-._"
_AFTER_SCHEME: Final = re.compile(r"(?:apikey|basic|bearer|digest|token)\s+(\S.*)", re.IGNORECASE | re.DOTALL)


def forms_of(value: str) -> Iterator[str]:
    """Yield a secret as it is, and as URLs, JSON, HTML, Python and Base64 write it.

    The value of an ``Authorization`` header also counts without its scheme.
    """
    secrets = {value, value.strip()}
    if match := _AFTER_SCHEME.fullmatch(value):
        secrets.add(match[1])
    for secret in secrets:
        data = secret.encode(errors="replace")
        yield from dict.fromkeys(
            form for written in _written(secret, data) for form in (written, *_escaped(written))
        )
        for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
            yield encoded.decode()
            yield encoded.decode().rstrip("=")


def _written(secret: str, data: bytes) -> Iterator[str]:
    """Yield a secret, and what URLs have in its place; a server that decodes those may get another text."""
    yield secret
    sent = _LONE_PERCENT.sub("%25", secret).encode(errors="replace")
    for quoted in (
        quote(data, safe=""),
        # A URL in a URL, such as that of a page to return to.
        quote(quote(data, safe="")),
        quote(data),
        quote_plus(data),
        # As the engine itself sends it, see ``urls``: in a path, and in a query.
        quote(sent, safe=_SENT_IN_PATH),
        quote(sent, safe=_SENT_IN_PATH + "?"),
    ):
        yield quoted
        yield _ESCAPE.sub(lambda match: match[0].lower(), quoted)
        yield unquote(quoted)
        yield unquote_plus(quoted)


def _escaped(text: str) -> Iterator[str]:
    for escaped in (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text)):
        yield escaped[1:-1]
        # JSON within JSON, such as an error's body in a log.
        yield json.dumps(escaped[1:-1])[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)


def _searched_forms(value: str) -> Iterator[str]:
    if value.strip().lower() not in _ORDINARY:
        yield from (form for form in forms_of(value) if len(form) >= MIN_SECRET_LENGTH)


class SecretMasks:
    """The secrets that a process knows. Safe to share between threads.

    Attributes:
        longest: the length of the longest form of a secret; 0 without secrets.
    """

    def __init__(self) -> None:
        self.longest = 0
        self._lock = threading.Lock()
        self._forms: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    @property
    def count(self) -> int:
        """How many forms of secrets are known."""
        return len(self._forms)

    def add(self, values: Iterable[str]) -> list[str]:
        """Add secrets; return those of their forms that were not known yet."""
        forms = [form for value in values if value not in self._forms for form in _searched_forms(value)]
        with self._lock:
            new = list(dict.fromkeys(form for form in forms if form not in self._forms))
            if new:
                self._forms.update(dict.fromkeys(new))
                while len(self._forms) > _MAX_FORMS:
                    del self._forms[next(iter(self._forms))]
                self.longest = max(map(len, self._forms))
                # The longest first: a secret can be a part of another one.
                ordered = sorted(self._forms, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, ordered)))
        return new

    def beginning(self, data: bytes, max_characters: int, more: Iterable[str] = ()) -> str:
        """Return the beginning of a text on one line with secrets masked, also one that is cut there.

        Args:
            data: the text, of any encoding.
            max_characters: how much to return of it, at most.
            more: further secrets, such as those of one request, which are not worth keeping.
        """
        others = sorted({form for value in more for form in _searched_forms(value)}, key=len, reverse=True)
        longest = max(self.longest, len(others[0]) if others else 0)
        # More than is returned, as runs of white space become one space.
        taken = data[: 4 * (4 * max_characters + longest)]
        text = self._masked(taken.decode(errors="replace"), others)
        # Again, since zero bytes (UTF-16) and the like can hide a secret that is visible without them.
        text = " ".join(text.split())
        text = self._masked("".join(filter(str.isprintable, text)), others)
        if len(taken) < len(data) and longest:
            # Its end can be the beginning of a secret.
            text = text[:-longest]
        return text[:max_characters]

    def _masked(self, text: str, others: Iterable[str]) -> str:
        for form in others:
            text = text.replace(form, MASK)
        return self.text(text)

    def text(self, text: str) -> str:
        """Return a text with ``***`` in place of each secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def json(self, value: Any, max_depth: int = MAX_SHOWN_DEPTH) -> Any:
        """Return a copy of a JSON value with all secrets masked, also in keys; the value itself without any.

        Objects and lists below ``max_depth`` levels become ``"..."``.
        """
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._pattern.sub(MASK, value)
        if isinstance(value, Mapping):
            if not max_depth:
                return _CUT
            return {
                self.text(key) if isinstance(key, str) else key: self.json(item, max_depth - 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.json(item, max_depth - 1) for item in value] if max_depth else _CUT
        return value
