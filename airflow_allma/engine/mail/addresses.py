"""E-mail addresses and header values, as a flow's data has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from airflow_allma.common.json_types import type_name
from airflow_allma.exceptions import PermanentStepError

__all__ = ["check_header_value", "parse_address", "parse_addresses"]

MAX_VALUE_CHARACTERS: Final = 998
"""Maximum length of a header's value: that of a line, before it is folded."""

_MAX_ADDRESS: Final = 320
_MAX_SHOWN: Final = 80
_MAX_LEVELS: Final = 3
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MAX_LOCAL: Final = 64
_NAMED: Final = re.compile(r"[^<>]*<([^<>]*)>")
# Everything that some mail server or reader takes for the end of a line, and broken Unicode.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 2047: readers decode it to any characters, also to the end of a line and to other addresses.
_ENCODED_WORD: Final = re.compile(r"=\?[^?\s]*\?[^?\s]*\?")


def check_header_value(value: str, field: str) -> str:
    """Return a header's value if it is safe to send.

    Raises:
        PermanentStepError: it contains control characters or an encoded word, or is too long.
    """
    if _CONTROL.search(value):
        raise _error(field, value, "contains line breaks or control characters; remove them from the data")
    if _ENCODED_WORD.search(value):
        raise _error(
            field,
            value,
            "contains an encoded word (=?...?=); write the text itself, which is encoded when it is sent",
        )
    if len(value) > MAX_VALUE_CHARACTERS:
        raise _error(field, value, f"is longer than {MAX_VALUE_CHARACTERS} characters")
    return value


def parse_address(value: Any, field: str) -> str:
    """Return the one address in a value.

    Raises:
        PermanentStepError: there is none or more than one, or it is not valid.
    """
    found = parse_addresses(value, field)
    if len(found) != 1:
        raise PermanentStepError(
            f"`{field}` must be one address; it has {len(found)}.", details={"field": field}
        )
    return found[0]


def parse_addresses(value: Any, field: str) -> list[str]:
    """Return the addresses in a value, each once.

    Args:
        value: a string with addresses between commas, or the JSON of a list; or a list of such strings. Null
            and empty strings are no addresses. ``Name <address>`` is reduced to the address.
        field: the step's field, for errors.

    Raises:
        PermanentStepError: it is something else, or an address is not valid.
    """
    return list(dict.fromkeys(_check_address(part, field) for part in _parts(value, field, 0)))


def _parts(value: Any, field: str, level: int) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, list | tuple) and level < _MAX_LEVELS:
        for member in value:
            yield from _parts(member, field, level + 1)
        return
    if not isinstance(value, str):
        raise PermanentStepError(
            f"`{field}` must be addresses: a string or a list of strings, not {type_name(value)}.",
            details={"field": field},
        )
    text = value.strip()
    if text.startswith("[") and level < _MAX_LEVELS:
        try:
            members = msgspec.json.decode(text, type=list)
        except msgspec.DecodeError:
            pass
        else:
            yield from _parts(members, field, level + 1)
            return
    yield from _split(text)


def _split(text: str) -> Iterator[str]:
    """Yield what is between commas outside of quotes and angle brackets."""
    start, in_quotes, in_brackets = 0, False, False
    for index, character in enumerate(text):
        if character == '"':
            in_quotes = not in_quotes
        elif in_quotes:
            continue
        elif character in "<>":
            in_brackets = character == "<"
        elif character == "," and not in_brackets:
            if part := text[start:index].strip():
                yield part
            start = index + 1
    if part := text[start:].strip():
        yield part


def _check_address(text: str, field: str) -> str:
    check_header_value(text, field)
    named = _NAMED.fullmatch(text)
    address = named[1].strip() if named else text
    local, _, domain = address.rpartition("@")
    try:
        domain = domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        domain = ""
    if not local.isascii():
        raise _error(field, text, "has characters other than ASCII before the '@', which cannot be sent")
    if (
        not _LOCAL.fullmatch(local)
        or not all(_LABEL.fullmatch(label) for label in domain.split("."))
        or len(local) > _MAX_LOCAL
        or len(address) > _MAX_ADDRESS
    ):
        raise _error(field, text, "is not an e-mail address, such as name@example.com")
    return f"{local}@{domain}"


def _error(field: str, value: str, reason: str) -> PermanentStepError:
    shown = repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}...")
    return PermanentStepError(f"`{field}` {shown} {reason}.", details={"field": field})
