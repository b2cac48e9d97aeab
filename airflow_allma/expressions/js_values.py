"""How JavaScript sees JSON values: truth, equality, order, numbers and text.

Expressions are compared and printed as the JavaScript engines do, so that a flow gives the same answers
on either. ``NOTHING`` is JavaScript's undefined, ``None`` its null. Whole numbers of any size stay exact
when compared or printed below 1e21; JavaScript would round them at 2**53.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.values import NOTHING

__all__ = [
    "at_least",
    "at_most",
    "greater",
    "less",
    "loosely_equal",
    "number_to_text",
    "strictly_equal",
    "text_length",
    "to_number",
    "to_text",
    "truthy",
]

_JS_WHITESPACE: Final = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# Every part of the pattern starts with another character than the one before it may end with:
# there is one way to match a text, so a long one costs no more than its length.
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_RADIX: Final = {"0x": 16, "0o": 8, "0b": 2}
_RADIX_DIGITS: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)\Z")
_INFINITY: Final = {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}

_LARGEST_PLAIN_EXPONENT: Final = 21  # 1e21 is the first number that JavaScript prints with an exponent
_SMALLEST_PLAIN_EXPONENT: Final = -6  # and 1e-7 the first small one


def truthy(value: Any) -> bool:
    """JavaScript's Boolean(): false for undefined, null, false, 0, NaN and the empty text.

    Objects and lists are true, empty ones too; a condition treats an empty list otherwise.
    """
    if value.__class__ is dict or value.__class__ is list:
        return True
    if isinstance(value, float):
        return value == value and value != 0.0  # noqa: PLR0124 (only NaN differs from itself)
    if value is None or value is NOTHING or isinstance(value, bool | int | str):
        return bool(value)
    return True


def text_length(text: str) -> int:
    """Length in UTF-16 code units, as JavaScript counts: a character beyond U+FFFF counts two."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def to_text(value: Any) -> str:
    """JavaScript's String(): lists join their items with commas, objects are ``[object Object]``.

    Raises:
        ExpressionEvaluationError: lists nested too deep to be text.
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
        return number_to_text(value)
    if isinstance(value, list):
        try:
            return _joined(value)
        except RecursionError:
            raise ExpressionEvaluationError(
                "a list is nested too deep to be written as text; take a part of it"
            ) from None
    if isinstance(value, Mapping):
        return "[object Object]"
    return str(value)


def _joined(items: list[Any]) -> str:
    return ",".join(
        [
            _joined(item)
            if item.__class__ is list
            else ""
            if item is None or item is NOTHING
            else to_text(item)
            for item in items
        ]
    )


def number_to_text(number: float) -> str:
    """The text JavaScript gives a number: ``3`` for 3.0, ``1e+21``, ``1e-7``, ``0`` for -0."""
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
    return _finite_to_text(number)


def _finite_to_text(number: float) -> str:
    sign = "-" if number < 0 else ""
    # repr() and JavaScript agree on the shortest digits, and differ only in where an exponent is used.
    mantissa, _, exponent_text = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent_text or 0)
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
    """JavaScript's Number(): 0 for null and the empty text, NaN for what is no number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    if value is NOTHING:
        return math.nan
    return _text_to_number(to_text(value))


def _text_to_number(text: str) -> float:
    stripped = text.strip(_JS_WHITESPACE)
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
    """JavaScript's ``===``: same type and value; objects and lists only when they are the same one."""
    if isinstance(left, str):
        return isinstance(right, str) and left == right
    if _is_number(left):
        return _is_number(right) and bool(left == right)
    return left is right


def loosely_equal(left: Any, right: Any) -> bool:
    """JavaScript's ``==``: null equals undefined, and values of other types meet as numbers or text."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if _is_missing(left) or _is_missing(right):
        return _is_missing(left) and _is_missing(right)
    if not _is_scalar(left):
        if not _is_scalar(right):
            return left is right
        left = to_text(left)
    elif not _is_scalar(right):
        right = to_text(right)
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return bool(to_number(left) == to_number(right))


def less(left: Any, right: Any) -> bool:
    """JavaScript's ``left < right``."""
    left, right = _comparable(left, right)
    return bool(left < right)


def greater(left: Any, right: Any) -> bool:
    """JavaScript's ``left > right``."""
    left, right = _comparable(left, right)
    return bool(left > right)


def at_most(left: Any, right: Any) -> bool:
    """JavaScript's ``left <= right``."""
    left, right = _comparable(left, right)
    return bool(left <= right)


def at_least(left: Any, right: Any) -> bool:
    """JavaScript's ``left >= right``."""
    left, right = _comparable(left, right)
    return bool(left >= right)


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Two texts, or two numbers (NaN among them, which no comparison holds for)."""
    if not _is_scalar(left):
        left = to_text(left)
    if not _is_scalar(right):
        right = to_text(right)
    if isinstance(left, str) and isinstance(right, str):
        if left.isascii() and right.isascii():
            return left, right
        # Texts are ordered by UTF-16 code units, which is not the order of code points.
        return left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
    return to_number(left), to_number(right)
