"""The body of a request to resume a task: read up to a limit, and checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.server.delivery import NotDeliveredError

__all__ = ["check_sender", "event_fields", "read_body"]

_FIELDS: Final = frozenset({"correlationValue", "payload"})
_EXAMPLE: Final = '{"correlationValue": "order:4711", "payload": {"approved": true}}'
_BEYOND_PAYLOAD: Final = 8192
"""What the body may have besides the payload: its other fields and white space."""
_OWN_PAGES: Final = frozenset({"same-origin", "none"})


def check_sender(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site may have made a browser send with its user's cookie.

    Browsers send JSON to another site only after asking it, which Airflow refuses; and they say where a
    request comes from.

    Raises:
        NotDeliveredError: 400 or 403.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise NotDeliveredError(
            HTTPStatus.BAD_REQUEST, "Send JSON, with the header Content-Type: application/json"
        )
    if "authorization" not in headers and headers.get("sec-fetch-site", "none") not in _OWN_PAGES:
        raise NotDeliveredError(HTTPStatus.FORBIDDEN, "Pages of other sites may not send events")


async def read_body(chunks: AsyncIterator[bytes], length: str | None, max_bytes: int) -> bytes:
    """Read a body whose payload may have ``max_bytes``.

    Args:
        chunks: the body.
        length: the header Content-Length.
        max_bytes: the limit of the payload.

    Raises:
        NotDeliveredError: 413; no more than the limit was read.
    """
    limit = max_bytes + _BEYOND_PAYLOAD
    if length is not None and length.isdecimal() and int(length) > limit:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise _too_large(max_bytes)
    return bytes(body)


def event_fields(body: bytes, max_bytes: int) -> tuple[str, dict[str, Any]]:
    """Return the key and the payload of a body.

    Raises:
        NotDeliveredError: 400; 413 if the payload alone has more than ``max_bytes`` of JSON.
    """
    try:
        read = decode_json(body)
    except (NotJsonError, UnreadableJsonError) as error:
        raise _bad(f"The body is not valid JSON: {error.reason}") from error
    if not isinstance(read, dict):
        raise _bad("The body must be a JSON object")
    if unknown := sorted(read.keys() - _FIELDS):
        raise _bad(f"Unknown field {unknown[0][:100]!r}")
    key, payload = read.get("correlationValue"), read.get("payload", {})
    if not isinstance(key, str) or not key:
        raise _bad("correlationValue must be a string that is not empty")
    if not isinstance(payload, dict):
        raise _bad("payload must be a JSON object")
    if len(body) > max_bytes and _size(payload) > max_bytes:
        raise _too_large(max_bytes)
    return key, payload


def _size(payload: Any) -> int:
    import msgspec

    return len(msgspec.json.encode(payload))


def _bad(reason: str) -> NotDeliveredError:
    return NotDeliveredError(HTTPStatus.BAD_REQUEST, f"{reason}. Example: {_EXAMPLE}")


def _too_large(max_bytes: int) -> NotDeliveredError:
    return NotDeliveredError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The payload is larger than {max_bytes} bytes of JSON ([allma] max_event_bytes)",
    )
