"""Masking of secrets in messages and logs: values whose names look secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

__all__ = [
    "MASK",
    "MAX_SHOWN_DEPTH",
    "looks_secret",
    "looks_secret_in_request",
    "mask_json_text",
    "mask_secrets",
    "mask_url",
]

MASK: Final = "***"
"""Replaces a secret."""

MAX_SHOWN_DEPTH: Final = 64
"""Levels of objects and lists that logs and messages show."""

_CUT: Final = "..."

_DOCUMENT_STARTS: Final = ("{", "[")
_MAX_DOCUMENT: Final = 64 << 10
"""Characters of a string that is looked into: bodies of requests are smaller, and each traced step pays."""
_STRING_LEVELS: Final = 2
"""A message of a queue is a string, and can have another message in it as a string."""

_SECRET_WORDS: Final = (
    "accesskey",
    "accountkey",
    "apikey",
    "applicationkey",
    "assertion",
    "authentication",
    "authkey",
    "authorization",
    "bearer",
    "codeverifier",
    "cookie",
    "credential",
    "encryptionkey",
    "functionkey",
    "functionskey",
    "jwt",
    "licensekey",
    "masterkey",
    "onetimecode",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "samlresponse",
    "secret",
    "session",
    "sharedkey",
    "signature",
    "signingkey",
    "subscriptionkey",
    "token",
    "verificationcode",
)
# Secrets only as the whole name: `auth`, but not `authType`.
_SECRET_NAMES: Final = frozenset({"auth", "pass", "pwd", "sas", "sig", "xauth"})
# Secrets as one word of a name: `userPin`, but not `shipping`.
_SECRET_SINGLE_WORDS: Final = frozenset({"cvc", "cvv", "otp", "otps", "pin", "pins", "totp"})
_MAX_REMEMBERED: Final = 64
"""Characters of a name whose result is remembered."""

# Names of secrets in a URL or a header, but of ordinary fields elsewhere.
_SECRET_URL_NAMES: Final = frozenset({"code", "key"})
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\\]*@")
# Possessive, and each character is looked at once: a JSON text in a string is a long run of escaped quotes.
_STRING: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)("?)', re.DOTALL)
_VALUE: Final = re.compile(r'\s*+:\s*+("(?:[^"\\]++|\\.)*+"?|[\[{]|[^\s,}\]]++)', re.DOTALL)
_PARAMETER: Final = re.compile(r"(?<=[?&;#])([^=&;#?]*)=([^&;#]*)")


def looks_secret(name: str) -> bool:
    """Return whether the value of this name (a header, a query parameter, a field) is probably a secret.

    Case and separators are ignored: ``X-Api-Key``, ``apiKey`` and ``api_key`` are the same.
    """
    # The items of a fork have the same names again and again. Names from data can be of any length.
    return _known(name) if len(name) <= _MAX_REMEMBERED else _looks_secret(name)


def _looks_secret(name: str) -> bool:
    plain = _SEPARATORS.sub("", name.lower())
    if plain in _SECRET_NAMES or any(word in plain for word in _SECRET_WORDS):
        return True
    return any(word.lower() in _SECRET_SINGLE_WORDS for word in _WORD.findall(name))


_known = lru_cache(maxsize=1024)(_looks_secret)


def looks_secret_in_request(name: str) -> bool:
    """Return whether a header or a query parameter of this name is probably a secret.

    Some names are those of secrets in a request, but of ordinary fields elsewhere: ``code``, ``key``,
    ``user_key``.
    """
    if looks_secret(name) or name.lower() in _SECRET_URL_NAMES:
        return True
    words = _WORD.findall(name)
    return bool(words) and words[-1].lower() == "key"


def mask_url(url: str) -> str:
    """Return the URL with user info and the values of secret-looking parameters masked.

    Any string is accepted, also an invalid URL or a sentence that contains one.
    """
    if "@" not in url and "=" not in url:
        return url
    masked = _USER_INFO.sub(f"{MASK}@", url)
    return _PARAMETER.sub(_mask_parameter, masked)


def _mask_parameter(match: re.Match[str]) -> str:
    name = unquote_plus(match[1])
    return f"{match[1]}={MASK}" if looks_secret_in_request(name) else match[0]


def mask_secrets(value: Any, max_depth: int = MAX_SHOWN_DEPTH) -> Any:
    """Return a copy of a JSON value with the values of secret-looking keys masked, at any depth.

    Strings that are JSON objects or lists, or their beginnings, are masked inside too, up to 64 Ki
    characters; so are such strings in complete ones. Objects and lists below ``max_depth`` levels become
    ``"..."``: whatever writes the copy need not be able to follow them.
    """
    return _masked(value, max_depth, _STRING_LEVELS)


def _masked(value: Any, depth: int, strings: int) -> Any:
    """Return a masked copy of a value, in which strings in strings are looked into for some levels."""
    if isinstance(value, str):
        # Before anything else is done: nearly no string is a JSON document.
        if value.startswith(_DOCUMENT_STARTS) and strings:
            return _masked_document(value, depth, strings - 1)
        return value
    if isinstance(value, Mapping):
        if not depth:
            return _CUT
        return {
            key: MASK if looks_secret(str(key)) and item is not None else _masked(item, depth - 1, strings)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(item, depth - 1, strings) for item in value] if depth else _CUT
    return value


def _masked_document(text: str, depth: int, strings: int) -> str:
    """Return a string, masked if it is a JSON document; one without secrets keeps its white space."""
    if len(text) > _MAX_DOCUMENT:
        return mask_json_text(text[:_MAX_DOCUMENT]) + text[_MAX_DOCUMENT:]
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # It can be the beginning of a document.
        return mask_json_text(text)
    masked = _masked(document, depth, strings)
    if masked == document:
        return text
    try:
        return msgspec.json.encode(masked).decode()
    except (ValueError, OverflowError):
        # A number that only the decoder knows.
        return MASK


def mask_json_text(beginning: str) -> str:
    """Return the beginning of some JSON, cut anywhere, with the values of secret-looking names masked.

    It ends before a secret that is an object or a list, since its end is not known. What was masked before
    stays as it is.
    """
    pieces, at, end = [], 0, 0
    while string := _STRING.search(beginning, end):
        end = string.end()
        value = _VALUE.match(beginning, end)
        if value is None or value[1] == MASK or not looks_secret(string[1]):
            continue
        pieces.append(beginning[at : value.start(1)])
        if value[1] in "[{":
            return "".join([*pieces, MASK])
        pieces.append(f'"{MASK}"')
        at = end = value.end()
    return "".join([*pieces, beginning[at:]])
