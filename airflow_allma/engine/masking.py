"""Masking of secrets in messages and logs: values whose names look secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = ["MASK", "MAX_SHOWN_DEPTH", "looks_secret", "looks_secret_in_request", "mask_secrets", "mask_url"]

MASK: Final = "***"
"""Replaces a secret."""

MAX_SHOWN_DEPTH: Final = 64
"""Levels of objects and lists that logs and messages show."""

_CUT: Final = "..."

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

    Objects and lists below ``max_depth`` levels become ``"..."``: whatever writes the copy need not be able
    to follow them.
    """
    if isinstance(value, Mapping):
        if not max_depth:
            return _CUT
        return {
            key: MASK if looks_secret(str(key)) and item is not None else mask_secrets(item, max_depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_secrets(item, max_depth - 1) for item in value] if max_depth else _CUT
    return value
