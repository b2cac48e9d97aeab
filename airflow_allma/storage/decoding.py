"""The decoding of the lines of objects, with errors that have their positions."""

from __future__ import annotations

from typing import Any

from airflow_allma.common.json_reader import BOM, NotJsonError, UnreadableJsonError, decode_all, decode_json
from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["BOM", "decode_line", "decode_lines", "is_json"]

decode_lines = decode_all


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
        return decode_json(data)
    except NotJsonError as error:
        raise ObjectDecodeError(
            f"The line at byte {offset} of {source} is not JSON: {error.reason}."
        ) from error
    except UnreadableJsonError as error:
        raise ObjectDecodeError(
            f"The line at byte {offset} of {source} is JSON that cannot be read: {error.reason}."
        ) from error


def is_json(data: bytes) -> bool:
    """Return whether the bytes are one complete JSON value, even one that cannot be read."""
    try:
        decode_json(data)
    except NotJsonError:
        return False
    except UnreadableJsonError:
        return True
    return True
