"""Reads the predicate of a filter, ``?(@.price > 4 && !@.sold)``, into a tree.

Comparisons, ``&&``, ``||``, ``!``, parentheses, literals and paths from ``@`` or ``$`` are known. Everything
else that JavaScript allows in a filter (arithmetic, calls, regular expressions) is refused when the flow is
loaded: a filter that silently matched something else would be worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from airflow_allma.expressions.scanner import QUOTES, Scanner
from airflow_allma.expressions.segments import (
    And,
    Compare,
    Not,
    Operand,
    Or,
    Predicate,
    Query,
    Segment,
    Truth,
    Value,
)
from airflow_allma.expressions.values import NOTHING

__all__ = ["COMPARISONS", "NUMBER", "WORDS", "ReadPath", "number", "read_filter", "take_operator"]

ReadPath = Callable[[Scanner, frozenset[str]], tuple[Segment, ...]]

COMPARISONS: Final = ("===", "!==", "==", "!=", ">=", "<=", "=", ">", "<")
"""Longest first, so that the first one that fits is meant."""

WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None, "undefined": NOTHING}

NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")

_OPERATOR_CHARACTERS: Final = frozenset("<>=!~")
_FILTER_STOPS: Final = frozenset(" \t\n\r\f\v<>=!&|)],")
_ARITHMETIC: Final = frozenset("+-*/%")
_WORD_STOPS: Final = _FILTER_STOPS | frozenset("(['\"")


def take_operator(scanner: Scanner) -> str | None:
    """The comparison that comes next; None if what comes next is another run of operator characters."""
    start = scanner.position
    while not scanner.at_end and scanner.current in _OPERATOR_CHARACTERS:
        scanner.position += 1
    found = scanner.text[start : scanner.position]
    return found if found in COMPARISONS else None


def number(text: str) -> int | float:
    """The value of a text that NUMBER matches: exact when it is whole and of a sane size."""
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 400 else float(text)


def read_filter(scanner: Scanner, read_path: ReadPath) -> Predicate:
    """The predicate after the ``?`` of a filter, up to the bracket that closes it.

    Raises:
        ExpressionSyntaxError: no predicate, or one that cannot be honoured.
    """
    return _either(scanner, read_path)


def _either(scanner: Scanner, read_path: ReadPath) -> Predicate:
    parts = [_all(scanner, read_path)]
    while _take_joint(scanner, "||"):
        parts.append(_all(scanner, read_path))
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _all(scanner: Scanner, read_path: ReadPath) -> Predicate:
    parts = [_negation(scanner, read_path)]
    while _take_joint(scanner, "&&"):
        parts.append(_negation(scanner, read_path))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _take_joint(scanner: Scanner, joint: str) -> bool:
    scanner.skip_spaces()
    return scanner.take(joint)


def _negation(scanner: Scanner, read_path: ReadPath) -> Predicate:
    negated = False
    scanner.skip_spaces()
    while scanner.take("!"):
        negated = not negated
        scanner.skip_spaces()
    if scanner.current == "(":
        inner = _parentheses(scanner, read_path)
    else:
        inner = _comparison(scanner, read_path, negated=negated)
    return Not(inner) if negated else inner


def _parentheses(scanner: Scanner, read_path: ReadPath) -> Predicate:
    opened = scanner.position
    scanner.take("(")
    scanner.nest()
    inner = _either(scanner, read_path)
    scanner.skip_spaces()
    if not scanner.take(")"):
        if scanner.at_end:
            scanner.fail("the parenthesis that opens here is not closed; add ')'", opened)
        scanner.fail("')' is expected here; a filter knows comparisons, '&&', '||', '!' and parentheses")
    scanner.unnest()
    scanner.skip_spaces()
    if not scanner.at_end and scanner.current not in ")]&|":
        scanner.fail("what is in parentheses cannot be compared or called; compare inside them")
    return inner


def _comparison(scanner: Scanner, read_path: ReadPath, *, negated: bool) -> Predicate:
    left = _operand(scanner, read_path)
    scanner.skip_spaces()
    start = scanner.position
    if scanner.current not in _OPERATOR_CHARACTERS:
        return Truth(left, empty_list_is_false=False)
    operator = take_operator(scanner)
    if operator is None:
        scanner.fail(f"no such comparison; these are known: {' '.join(COMPARISONS)}", start)
    if operator == "=":
        scanner.fail("'=' assigns in a filter; write '==' to compare", start)
    if negated:
        scanner.fail(f"'!' here negates the left side only; write !(... {operator} ...)", start)
    return Compare(operator, left, _operand(scanner, read_path))


def _operand(scanner: Scanner, read_path: ReadPath) -> Operand:
    scanner.skip_spaces()
    current = scanner.current
    start = scanner.position
    if not current:
        scanner.fail("the filter ends where a path or a literal is expected")
    if current in "@$":
        scanner.position += 1
        operand: Operand = Query(read_path(scanner, _FILTER_STOPS | _ARITHMETIC), from_item=current == "@")
        _refuse_arithmetic(scanner)
        return operand
    if current in QUOTES:
        operand = Value(scanner.take_quoted())
        _refuse_arithmetic(scanner)
        return operand
    matched = NUMBER.match(scanner.text, scanner.position, scanner.end)
    if matched:
        scanner.position = matched.end()
        operand = Value(number(matched.group()))
        _refuse_arithmetic(scanner)
        return operand
    word = scanner.take_until(_WORD_STOPS)
    if word not in WORDS:
        scanner.fail(
            "a path from '@' or '$', a quoted text, a number, true, false, null or undefined is expected",
            start,
        )
    return Value(WORDS[word])


def _refuse_arithmetic(scanner: Scanner) -> None:
    scanner.skip_spaces()
    if not scanner.at_end and scanner.current in _ARITHMETIC:
        scanner.fail(
            "filters do no arithmetic; compute the value in an earlier step, "
            "or put a name that has this character in quotes: @['a-b']"
        )
