"""What must not be read in messages and logs: values whose names look secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = ["MASK", "looks_secret", "mask_secrets", "mask_url"]

MASK: Final = "***"
"""Stands where a secret was."""

_WORDS: Final = (
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
_WHOLE: Final = frozenset({"auth", "pass", "pwd", "sas", "sig"})
# Secrets in a URL, but ordinary names of fields elsewhere.
_WHOLE_IN_URLS: Final = frozenset({"code", "key"})
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\\]*@")
_PARAMETER: Final = re.compile(r"(?<=[?&;#])([^=&;#?]*)=([^&;#]*)")


def looks_secret(name: str) -> bool:
    """Whether a value of this name (a header, a query parameter, a field) is probably a secret.

    Upper and lower case and separators do not matter: ``X-Api-Key``, ``apiKey`` and ``api_key`` are the same.
    """
    plain = _SEPARATORS.sub("", name.lower())
    return plain in _WHOLE or any(word in plain for word in _WORDS)


def mask_url(url: str) -> str:
    """The URL as it may be shown: user info and the values of secret-looking parameters are masked.

    Works on any text, also on what is no URL.
    """
    masked = _USER_INFO.sub(f"{MASK}@", url)
    return _PARAMETER.sub(_mask_parameter, masked)


def _mask_parameter(found: re.Match[str]) -> str:
    name = unquote_plus(found[1])
    hidden = looks_secret(name) or name.lower() in _WHOLE_IN_URLS
    return f"{found[1]}={MASK}" if hidden else found[0]


def mask_secrets(value: Any) -> Any:
    """A copy of a JSON value in which the values of secret-looking keys are masked, at any depth."""
    if isinstance(value, Mapping):
        return {
            key: MASK if looks_secret(str(key)) and item is not None else mask_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_secrets(item) for item in value]
    return value
