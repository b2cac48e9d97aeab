"""Options of the command line whose value is a JSON object, or a file with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.exceptions import AllmaError

__all__ = ["UsageError", "read_object"]


class UsageError(AllmaError):
    """The command was called with an invalid option."""


def read_object(value: str, option: str) -> dict[str, Any]:
    """Return the object: the value itself, or the content of the file that it names.

    Args:
        value: a JSON object, or the name of a file.
        option: the option's name, for errors.

    Raises:
        UsageError: it is neither.
    """
    source, subject = value, option
    if not value.lstrip().startswith(("{", "[")):
        subject = f"{option} {value}"
        try:
            # Editors on Windows begin a file with a byte order mark.
            source = Path(value).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{subject} is neither a JSON object nor a file that can be read: {error}"
            ) from error
    try:
        found = decode_json(source.encode())
    except (NotJsonError, UnreadableJsonError) as error:
        raise UsageError(f"{subject} is not JSON: {error.reason}{_advice(source)}") from error
    except UnicodeEncodeError as error:
        raise UsageError(f"{subject} is not JSON: it contains broken Unicode") from error
    if not isinstance(found, dict):
        raise UsageError(
            f'{subject} must be a JSON object such as {{"key": 1}}; it is {type(found).__name__}'
        )
    return found


def _advice(source: str) -> str:
    """Return what to write in place of a string that is not JSON; empty if that is unknown."""
    if _is_json_lines(source):
        return (
            '; it is JSON Lines, which a fork reads from a store: pass {"rows": {"bucket": "B", "key": '
            '"rows.jsonl"}}, with the name that the flow reads, and --store file:///folder, in which the '
            "bucket is the folder B"
        )
    return '; names and strings have double quotes: {"key": "value"}' if "'" in source else ""


def _is_json_lines(source: str) -> bool:
    first, _, rest = source.lstrip().partition("\n")
    try:
        return isinstance(decode_json(first.encode()), dict) and rest.lstrip().startswith("{")
    except (NotJsonError, UnreadableJsonError, UnicodeEncodeError):
        return False
