"""What a flow's data becomes on its way through Airflow: JSON strings, and values fit for its databases.

An XCom travels as msgpack to the supervisor, as JSON to the API server, and is stored as JSONB in PostgreSQL
or JSON in MySQL and SQLite. Together they refuse more than JSON does, and two of them reorder objects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from airflow_allma.exceptions import PermanentStepError

__all__ = ["from_json", "is_unchanged", "json_bytes", "restore_key_order", "xcom_safe"]

_RESERVED: Final = frozenset({"__classname__", "__version__", "__data__", "__type", "__var", "__id__"})
"""Keys that Airflow's serializer interprets."""

_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**64 - 1
"""Limits of msgpack."""

_MAX_DEPTH: Final = 64
"""Levels of objects and lists. MySQL has 100, the API server's validation 200."""

_MAX_KEY_LENGTH: Final = 16_000
"""In characters. MySQL has 65,535 bytes."""

_MAX_FLOAT: Final = 1e16
"""From here on Python writes floats without a decimal point, and PostgreSQL returns them as integers."""


def json_bytes(value: Any) -> bytes:
    """Return a JSON value as compact JSON, whatever strings and integers it contains.

    NaN and the infinities become null, as in JavaScript.

    Raises:
        PermanentStepError: it is nested too deeply.
    """
    try:
        try:
            return msgspec.json.encode(value)
        except UnicodeEncodeError:
            # Half of a surrogate pair is valid in a Python string and in JSON, but not in UTF-8.
            return json.dumps(value, separators=(",", ":")).encode()
    except RecursionError as error:
        raise PermanentStepError(
            "The data of the run is nested too deeply to be passed on to other tasks. Use a part of it, or "
            "flatten it first."
        ) from error


def from_json(encoded: str) -> Any:
    """Return the value that ``json_bytes`` encoded."""
    try:
        return msgspec.json.decode(encoded)
    except msgspec.DecodeError:
        return json.loads(encoded)


def xcom_safe(value: Any) -> Any:
    """Return a flow's value as a return value: itself, or its JSON as a string.

    It is a string if some part of it does not pass Airflow's transport and all of its databases: U+0000 and
    half surrogate pairs, numbers of more than 64 bits, NaN and the infinities, keys that Airflow's
    serializer interprets or that are too long for MySQL, more than 64 levels.
    """
    return value if _passes(value, unchanged=False) else json_bytes(value).decode()


def is_unchanged(value: Any, known_keys: Sequence[str] = ()) -> bool:
    """Return whether a value comes back from each of Airflow's databases exactly as it was sent.

    PostgreSQL and MySQL sort the keys of objects, by length and then by bytes, and PostgreSQL takes large
    floats for integers.

    Args:
        value: the value.
        known_keys: what ``restore_key_order`` will be called with.
    """
    if not known_keys or not isinstance(value, dict):
        return _passes(value, unchanged=True)
    return (
        _passes(value, unchanged=False)
        and list(value) == list(restore_key_order(value, known_keys))
        and all(_passes(member, unchanged=True) for member in value.values())
    )


def restore_key_order(value: Any, known_keys: Sequence[str]) -> Any:
    """Return a value from a database with the keys of its outermost object in the order of ``known_keys``.

    Keys that are not known come last, as databases sort them.
    """
    if not known_keys or not isinstance(value, dict):
        return value
    rank = {key: position for position, key in enumerate(known_keys)}
    keys = sorted(value, key=lambda key: (rank.get(key, len(rank)), _database_order(key)))
    return {key: value[key] for key in keys}


def _passes(value: Any, *, unchanged: bool) -> bool:
    # Level by level, not recursively: the value can be deeper than Python's stack.
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for member in level:
            if isinstance(member, str):
                if not _is_plain(member):
                    return False
            elif isinstance(member, dict):
                if not _keys_pass(member, unchanged=unchanged):
                    return False
                below.extend(member.values())
            elif isinstance(member, list):
                below.extend(member)
            elif isinstance(member, float):
                # PostgreSQL returns large floats as integers, which msgpack then refuses.
                if not abs(member) < -_MIN_INT or (unchanged and not _is_plain_float(member)):
                    return False
            elif isinstance(member, int):
                if not _MIN_INT <= member <= _MAX_INT:
                    return False
            elif unchanged and member is not None:
                return False
        if not below:
            return True
        level = below
    return False


def _keys_pass(value: dict[str, Any], *, unchanged: bool) -> bool:
    if not _RESERVED.isdisjoint(value):
        return False
    if not all(len(key) <= _MAX_KEY_LENGTH and _is_plain(key) for key in value):
        return False
    return not unchanged or list(value) == sorted(value, key=_database_order)


def _database_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded


def _is_plain(text: str) -> bool:
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain_float(number: float) -> bool:
    return abs(number) < _MAX_FLOAT and (number != 0 or math.copysign(1, number) > 0)
