"""Masking of secrets in messages and logs: values whose names look secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = ["MASK", "looks_secret", "mask_secrets", "mask_url"]

MASK: Final = "***"
"""Replaces a secret."""

_SECRET_WORDS: Final = (
    "accesskey",
    "apikey",
    "authkey",
    "authorization",
    "cookie",
    "credential",
    "functionkey",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "session",
    "signature",
    "subscriptionkey",
    "token",
)
_SECRET_NAMES: Final = frozenset({"auth", "pass", "pwd", "sas", "sig"})
# Names of secrets in a URL, but of ordinary fields elsewhere.
_SECRET_URL_NAMES: Final = frozenset({"code", "key"})
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\\]*@")
_PARAMETER: Final = re.compile(r"(?<=[?&;#])([^=&;#?]*)=([^&;#]*)")


def looks_secret(name: str) -> bool:
    """Return whether the value of this name (a header, a query parameter, a field) is probably a secret.

    Case and separators are ignored: ``X-Api-Key``, ``apiKey`` and ``api_key`` are the same.
    """
    plain = _SEPARATORS.sub("", name.lower())
    return plain in _SECRET_NAMES or any(word in plain for word in _SECRET_WORDS)


def mask_url(url: str) -> str:
    """Return the URL with user info and the values of secret-looking parameters masked.

    Any string is accepted, also an invalid URL or a sentence that contains one.
    """
    masked = _USER_INFO.sub(f"{MASK}@", url)
    return _PARAMETER.sub(_mask_parameter, masked)


def _mask_parameter(match: re.Match[str]) -> str:
    name = unquote_plus(match[1])
    is_secret = looks_secret(name) or name.lower() in _SECRET_URL_NAMES
    return f"{match[1]}={MASK}" if is_secret else match[0]


def mask_secrets(value: Any) -> Any:
    """Return a copy of a JSON value with the values of secret-looking keys masked, at any depth."""
    if isinstance(value, Mapping):
        return {
            key: MASK if looks_secret(str(key)) and item is not None else mask_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_secrets(item) for item in value]
    return value
