"""Bytes to JSON values, with errors that say where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["BOM", "decode_line", "decode_lines", "try_decode"]

BOM: Final = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode


def decode_line(data: bytes, offset: int = 0, source: str = "the object") -> Any:
    """Decode one JSON value.

    Args:
        data: one line, without its line break.
        offset: where it begins in the object, in bytes; for the error.
        source: names the object; for the error.

    Raises:
        ObjectDecodeError: it is not JSON as the standard has it (NaN and Infinity, a byte order mark, half a
            surrogate pair or bytes that are not UTF-8 are not), a number is out of range, or it is nested too
            deep.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ObjectDecodeError(
            f"The line at byte {offset} of {source} is not JSON: {_reason(data, error)}."
        ) from error


def decode_lines(lines: Iterable[bytes]) -> list[Any] | None:
    """Many JSON values at the price of few; None when one of them is none: ``decode_line`` tells which."""
    try:
        return list(map(_decode, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def try_decode(data: bytes) -> tuple[bool, Any]:
    """Whether the bytes are one JSON value, and the value."""
    try:
        return True, _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False, None


def _reason(data: bytes, error: Exception) -> str:
    if data.startswith(BOM):
        return "it begins with a byte order mark; only the very first line may"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} of the text that holds it is not UTF-8 ({error.reason}); save it as UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    for word in (b"NaN", b"Infinity"):
        if word in data:
            return f"{word.decode()} is no JSON number; write null, or text"
    if b"\\ud" in data.lower():
        return "half of a surrogate pair (\\ud800 to \\udfff) is no character; write the whole character"
    return str(error).rstrip(".")
