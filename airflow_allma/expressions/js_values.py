"""The JavaScript semantics of JSON values: truthiness, equality, order, numbers and strings.

Expressions compare and print values as JavaScript engines do, so that a flow has the same results on both.
``NOTHING`` is JavaScript's undefined, ``None`` is its null. Integers of any size stay exact when they are
compared, or printed below 1e21; JavaScript would round them from 2**53 on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.work_budget import LONG_TEXT, spend_text
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.undefined import NOTHING

__all__ = [
    "at_least",
    "at_most",
    "character_at",
    "greater",
    "less",
    "loosely_equal",
    "number_to_string",
    "strictly_equal",
    "string_length",
    "to_number",
    "to_string",
    "truthy",
]

_JS_WHITESPACE: Final = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# No part of the pattern can start with a character that the part before it can end with: a string matches in
# only one way, so matching takes linear time.
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_RADIX: Final = {"0x": 16, "0o": 8, "0b": 2}
_RADIX_DIGITS: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)\Z")
_INFINITY: Final = {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}

_COMPARED_PER_POINT: Final = 256
"""Characters that two strings have in common, compared in the time of one point of work."""

_LARGEST_PLAIN_EXPONENT: Final = 21  # 1e21 is the first number that JavaScript prints with an exponent
_SMALLEST_PLAIN_EXPONENT: Final = -6  # and 1e-7 the first small one


def truthy(value: Any) -> bool:
    """Return JavaScript's ``Boolean(value)``: false for undefined, null, false, 0, NaN and the empty string.

    Objects and lists are true even if they are empty; conditions treat an empty list differently.
    """
    if value.__class__ is dict or value.__class__ is list:
        return True
    if isinstance(value, float):
        return value == value and value != 0.0  # noqa: PLR0124 (only NaN differs from itself)
    if value is None or value is NOTHING or isinstance(value, bool | int | str):
        return bool(value)
    return True


def string_length(string: str) -> int:
    """Return the length in UTF-16 code units, as JavaScript does: a character above U+FFFF counts as two."""
    if string.isascii():
        return len(string)
    spend_text(len(string))
    return len(string.encode("utf-16-le", "surrogatepass")) // 2


def character_at(string: str, index: int) -> Any:
    """Return the character at an index that counts as ``string_length`` does, or NOTHING after the end.

    Both indexes of a character above U+FFFF return it: JavaScript returns half of it, which is not text.
    """
    if string.isascii():
        return string[index] if index < len(string) else NOTHING
    prefix = string[: index + 2]
    if len(prefix) > LONG_TEXT:
        spend_text(len(prefix))
    units = prefix.encode("utf-16-le", "surrogatepass")
    start = 2 * index
    unit = int.from_bytes(units[start : start + 2], "little")
    if start >= len(units):
        return NOTHING
    if 0xDC00 <= unit < 0xE000:
        return units[max(start - 2, 0) : start + 2].decode("utf-16-le", "surrogatepass")[-1]
    return units[start : start + 4].decode("utf-16-le", "surrogatepass")[0]


def to_string(value: Any) -> str:
    """Return JavaScript's ``String(value)``: list items joined with commas, ``[object Object]`` for objects.

    Raises:
        ExpressionEvaluationError: the lists are nested too deeply.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if value is NOTHING:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_to_string(value)
    if isinstance(value, list):
        try:
            string = _join(value)
        except RecursionError:
            raise ExpressionEvaluationError(
                "a list is nested too deeply to become a string; use a part of it"
            ) from None
        # Also an item that is an empty string is visited: a comma follows it.
        spend_text(len(string))
        return string
    if isinstance(value, Mapping):
        return "[object Object]"
    return str(value)


def _join(items: list[Any]) -> str:
    return ",".join(
        [
            _join(item)
            if item.__class__ is list
            else ""
            if item is None or item is NOTHING
            else to_string(item)
            for item in items
        ]
    )


def number_to_string(number: float) -> str:
    """Return a number as JavaScript prints it: ``3`` for 3.0, ``1e+21``, ``1e-7``, ``0`` for -0."""
    if isinstance(number, int):
        if -(10**21) < number < 10**21:
            return str(number)
        try:
            number = float(number)
        except OverflowError:
            return "Infinity" if number > 0 else "-Infinity"
    if number != number:  # noqa: PLR0124
        return "NaN"
    if number in (math.inf, -math.inf):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    return _finite_to_string(number)


def _finite_to_string(number: float) -> str:
    sign = "-" if number < 0 else ""
    # repr() and JavaScript agree on the shortest digits, and differ only in when they use an exponent.
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= _LARGEST_PLAIN_EXPONENT:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= _LARGEST_PLAIN_EXPONENT:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _SMALLEST_PLAIN_EXPONENT < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def to_number(value: Any) -> float:
    """Return JavaScript's ``Number(value)``: 0 for null and the empty string, NaN if it is not a number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    if value is NOTHING:
        return math.nan
    return _string_to_number(to_string(value))


def _string_to_number(string: str) -> float:
    if len(string) > LONG_TEXT:
        spend_text(len(string))
    stripped = string.strip(_JS_WHITESPACE)
    if not stripped:
        return 0
    if _DECIMAL.match(stripped):
        return float(stripped)
    if _RADIX_DIGITS.match(stripped):
        try:
            return float(int(stripped[2:], _RADIX[stripped[:2].lower()]))
        except OverflowError:
            return math.inf
    return _INFINITY.get(stripped, math.nan)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or value is NOTHING


def _is_scalar(value: Any) -> bool:
    return value is None or value is NOTHING or isinstance(value, str | bool | int | float)


def strictly_equal(left: Any, right: Any) -> bool:
    """Return JavaScript's ``===``: same type and value, and the same object for objects and lists."""
    if isinstance(left, str):
        return isinstance(right, str) and _same_text(left, right)
    if _is_number(left):
        return _is_number(right) and bool(left == right)
    return left is right


def loosely_equal(left: Any, right: Any) -> bool:
    """Return JavaScript's ``==``: null equals undefined, other types are compared as numbers or strings."""
    if isinstance(left, str) and isinstance(right, str):
        return _same_text(left, right)
    if _is_missing(left) or _is_missing(right):
        return _is_missing(left) and _is_missing(right)
    if not _is_scalar(left):
        if not _is_scalar(right):
            return left is right
        left = to_string(left)
    elif not _is_scalar(right):
        right = to_string(right)
    if isinstance(left, str) and isinstance(right, str):
        return _same_text(left, right)
    return bool(to_number(left) == to_number(right))


def _same_text(left: str, right: str) -> bool:
    if len(left) > LONG_TEXT and len(left) == len(right):
        spend_text(len(left) // _COMPARED_PER_POINT)
    return left == right


def less(left: Any, right: Any) -> bool:
    """Return JavaScript's ``left < right``."""
    left, right = _comparable(left, right)
    return bool(left < right)


def greater(left: Any, right: Any) -> bool:
    """Return JavaScript's ``left > right``."""
    left, right = _comparable(left, right)
    return bool(left > right)


def at_most(left: Any, right: Any) -> bool:
    """Return JavaScript's ``left <= right``."""
    left, right = _comparable(left, right)
    return bool(left <= right)


def at_least(left: Any, right: Any) -> bool:
    """Return JavaScript's ``left >= right``."""
    left, right = _comparable(left, right)
    return bool(left >= right)


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Return both values as strings or as numbers; every comparison with NaN is false."""
    if not _is_scalar(left):
        left = to_string(left)
    if not _is_scalar(right):
        right = to_string(right)
    if isinstance(left, str) and isinstance(right, str):
        if left.isascii() and right.isascii():
            if len(left) > LONG_TEXT < len(right):
                spend_text(min(len(left), len(right)) // _COMPARED_PER_POINT)
            return left, right
        if len(left) + len(right) > LONG_TEXT:
            spend_text(len(left) + len(right))
        # JavaScript orders strings by UTF-16 code units, which is not the order of code points.
        return left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
    return to_number(left), to_number(right)
