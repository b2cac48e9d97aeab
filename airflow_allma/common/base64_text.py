"""Bytes as Base64 strings, and back."""

from __future__ import annotations

import base64
from typing import Final

__all__ = ["from_base64", "to_base64", "to_base64url"]

_FROM_URL_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")


def to_base64(data: bytes) -> str:
    """Return ``data`` in standard Base64, padded."""
    return base64.b64encode(data).decode("ascii")


def to_base64url(data: bytes) -> str:
    """Return ``data`` in URL-safe Base64, without padding, as Node.js writes it."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def from_base64(encoded: str) -> bytes:
    """Decode standard or URL-safe Base64, padded or not; whitespace is ignored.

    Raises:
        binascii.Error: another character occurs, or the length is impossible.
        UnicodeEncodeError: the string contains broken Unicode.
    """
    data = b"".join(encoded.encode().split()).translate(_FROM_URL_ALPHABET).rstrip(b"=")
    return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
