"""A response to an HTTP request."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["HttpResponse"]


class HttpResponse(msgspec.Struct, frozen=True):
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: lower-case names; the values of a repeated header are joined by ``", "``.
        body: decompressed bytes.
    """

    status: int
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
