"""The decoding of JSON values, with errors that have their positions."""

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
        offset: where it begins in the object, in bytes; for errors.
        source: names the object in errors.

    Raises:
        ObjectDecodeError: it is not standard JSON (NaN, Infinity, a byte order mark, half a surrogate pair
            and bytes that are not UTF-8 are not), a number is out of range, or it is nested too deeply.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ObjectDecodeError(
            f"The line at byte {offset} of {source} is not JSON: {_reason(data, error)}."
        ) from error


def decode_lines(lines: Iterable[bytes]) -> list[Any] | None:
    """Decode many JSON values quickly; None if one of them is invalid (``decode_line`` says which)."""
    try:
        return list(map(_decode, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def try_decode(data: bytes) -> tuple[bool, Any]:
    """Return whether the bytes are one JSON value, and the value."""
    try:
        return True, _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False, None


def _reason(data: bytes, error: Exception) -> str:
    if data.startswith(BOM):
        return "it begins with a byte order mark, which only the first line of the object can have"
    if isinstance(error, UnicodeDecodeError):
        return (
            f"byte {error.start} of the string that contains it is not UTF-8 ({error.reason}); save as UTF-8"
        )
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    for word in (b"NaN", b"Infinity"):
        if word in data:
            return f"{word.decode()} is not a JSON number; write null, or a string"
    if b"\\ud" in data.lower():
        return "half of a surrogate pair (\\ud800 to \\udfff) is not a character; write the whole character"
    return str(error).rstrip(".")
