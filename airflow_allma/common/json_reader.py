"""Reading JSON that comes from outside: responses, objects, lines of manifests, payload files.

msgspec decodes ordinary JSON. Where it refuses, this module finds out why: the bytes are not JSON at all, or
they are JSON that Python or Airflow cannot hold. The two are different errors, so that a caller can treat
the former as a string and never does so with the latter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from airflow_allma.common.charsets import codec_of, decode_string, mark_of
from airflow_allma.exceptions import AllmaError

__all__ = [
    "BOM",
    "JsonDocument",
    "NotJsonError",
    "UnreadableJsonError",
    "decode_all",
    "decode_json",
    "decode_object",
    "parse_json",
    "read_json",
]

BOM: Final = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode
_UTF8: Final = frozenset({"utf-8", "utf8"})
_FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# An escaped backslash, a whole surrogate pair, or half of one (the group).
_HALF_PAIR: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_SHOWN_DIGITS: Final = 30
_DEEP: Final = 100
# Sets in which servers declare bodies that they send as UTF-8.
_OFTEN_WRONG: Final = frozenset({"ascii", "iso8859-1", "iso8859-15", "cp1252"})

_HALF_PAIR_REASON: Final = "half of a surrogate pair (\\ud800 to \\udfff) is not a character"


class NotJsonError(AllmaError, ValueError):
    """The bytes are not JSON at all.

    Attributes:
        reason: why, as the end of a sentence.
        string: the decoded bytes, if they were decoded.
        warnings: as in ``JsonDocument``.
    """

    def __init__(self, reason: str, string: str = "", warnings: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.string = string
        self.warnings = warnings


class UnreadableJsonError(AllmaError, ValueError):
    """The bytes are JSON, but contain something that no value of a flow can hold.

    Attributes:
        reason: what, and how to fix it, as the end of a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JsonDocument(msgspec.Struct, frozen=True):
    """A JSON value, and what was lost on the way.

    Attributes:
        value: the value.
        warnings: one sentence for each kind of loss; empty if the value is exact.
    """

    value: Any
    warnings: tuple[str, ...] = ()


def decode_json(data: bytes) -> Any:
    """Decode one JSON value in UTF-8, exactly.

    Raises:
        NotJsonError: it is not standard JSON (NaN, Infinity, a byte order mark and bytes that are not UTF-8
            are not).
        UnreadableJsonError: it contains half of a surrogate pair or a number that is out of range, or is
            nested too deeply.
    """
    try:
        return _decode(data)
    except UnicodeDecodeError as error:
        raise NotJsonError(
            f"byte {error.start} of the string that contains it is not UTF-8 ({error.reason}); save as UTF-8"
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        if data.startswith(BOM):
            raise NotJsonError(
                "it begins with a byte order mark, which only the first line of the object can have"
            ) from error
        try:
            source = data.decode()
        except UnicodeDecodeError as invalid:
            raise NotJsonError(
                f"byte {invalid.start} is not UTF-8 ({invalid.reason}); save as UTF-8"
            ) from error
        return _decode_slowly(source, error).value


def decode_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a string; None if it is anything else.

    The reason is lost: it shows a part of the string, which can be a secret.
    """
    try:
        value = decode_json(text.encode())
    except (NotJsonError, UnreadableJsonError, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict) else None


def decode_all(values: Iterable[bytes]) -> list[Any] | None:
    """Decode many JSON values quickly; None if one of them is invalid (``decode_json`` says why)."""
    try:
        return list(map(_decode, values))
    except _FAILURES:
        return None


def read_json(data: bytes, charset: str | None = None) -> JsonDocument:
    """Read one JSON value in any charset, leniently with characters and strictly with everything else.

    The charset is that of the byte order mark, else ``charset``, else UTF-8. Bytes that are not valid in it
    and halves of surrogate pairs become replacement characters, with a warning.

    JSON is UTF-8 by its standard, and servers often declare a Western charset without knowing: bytes that
    are valid UTF-8 JSON are read as that, whatever single-byte Western charset is declared.

    Args:
        data: the bytes.
        charset: as a media type declares it; None for none.

    Raises:
        NotJsonError: the string is not JSON; it has the string.
        UnreadableJsonError: a number is out of range, or the value is nested too deeply.
    """
    # The marks of other charsets are not JSON in UTF-8, so that nearly all bytes need no look for one.
    if charset is None or charset in _UTF8 or _is_probably_utf8(data, charset):
        try:
            return JsonDocument(_decode(data.removeprefix(BOM)))
        except _FAILURES:
            pass
    decoded = decode_string(data, charset)
    return parse_json(decoded.string, decoded.warnings)


def parse_json(source: str, warnings: tuple[str, ...] = ()) -> JsonDocument:
    """Parse a string as ``read_json`` parses decoded bytes; add ``warnings`` to the result.

    Raises:
        NotJsonError: the string is not JSON.
        UnreadableJsonError: as ``read_json``.
    """
    try:
        return JsonDocument(_decode(source.encode()), warnings)
    except UnicodeEncodeError as error:
        raise NotJsonError("it contains broken Unicode", source, warnings) from error
    except (msgspec.DecodeError, RecursionError) as error:
        try:
            return _decode_slowly(source, error, warnings, is_lenient=True)
        except NotJsonError as not_json:
            raise NotJsonError(not_json.reason, source, warnings) from error


def _is_probably_utf8(data: bytes, charset: str) -> bool:
    mark = mark_of(data)
    if mark is not None:
        return mark[1] == "utf-8"
    return codec_of(charset) in {None, "utf-8", "utf-8-sig", *_OFTEN_WRONG}


@dataclass(slots=True)
class _Literals:
    """The literals that Python's own parser accepts and JSON or Python does not."""

    constants: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    def constant(self, literal: str) -> None:
        self.constants.append(literal)

    def real(self, literal: str) -> float:
        number = float(literal)
        if number - number != 0:
            self.numbers.append(literal)
        return number

    def whole(self, literal: str) -> int:
        try:
            return int(literal)
        except ValueError:  # more digits than Python converts
            self.numbers.append(literal)
            return 0


def _decode_slowly(
    source: str, error: Exception, warnings: tuple[str, ...] = (), *, is_lenient: bool = False
) -> JsonDocument:
    """Decode what msgspec refused with ``error``, or raise the reason."""
    halves = [0]
    whole = _HALF_PAIR.sub(lambda match: _count_half(match, halves), source) if "\\u" in source else source
    if halves[0] and is_lenient:
        source, warnings = whole, (*warnings, f"{_HALF_PAIR_REASON}; it became U+FFFD")
    literals = _Literals()
    try:
        value = json.loads(
            source,
            parse_constant=literals.constant,
            parse_float=literals.real,
            parse_int=literals.whole,
        )
    except RecursionError as deep:
        left_open = _open_brackets(source)
        # A line that opens hundreds of brackets and closes few is a value that is cut off, not the beginning
        # of an array over several lines.
        if left_open != 0 and (is_lenient or left_open is None or left_open < _DEEP):
            raise NotJsonError("it is nested too deeply, and its brackets do not match") from error
        raise UnreadableJsonError("it is nested too deeply") from deep
    except ValueError as invalid:
        raise NotJsonError(_reason(error, invalid)) from error
    if literals.constants:
        literal = literals.constants[0].removeprefix("-")
        raise NotJsonError(f"{literal} is not a JSON number; write null, or a string")
    if literals.numbers:
        number = literals.numbers[0]
        shown = number if len(number) <= _SHOWN_DIGITS else f"{number[:_SHOWN_DIGITS]}..."
        raise UnreadableJsonError(f"the number {shown} is out of range; write it as a string")
    if halves[0] and not is_lenient:
        raise UnreadableJsonError(f"{_HALF_PAIR_REASON}; write the whole character")
    return JsonDocument(value, warnings)


def _count_half(match: re.Match[str], halves: list[int]) -> str:
    if match[1] is None:
        return match[0]
    halves[0] += 1
    return "\\ufffd"


def _reason(error: Exception, invalid: ValueError) -> str:
    # msgspec counts bytes, as the positions in our messages do.
    return str(error if isinstance(error, msgspec.DecodeError) else invalid).rstrip(".")


def _open_brackets(source: str) -> int | None:
    """Return how many brackets are not closed; None if one is closed that was not opened."""
    opened: list[str] = []
    for match in _STRUCTURE.finditer(source):
        sign = match[0]
        if sign in "[{":
            opened.append("]" if sign == "[" else "}")
        elif sign in "]}" and (not opened or opened.pop() != sign):
            return None
    return len(opened)
