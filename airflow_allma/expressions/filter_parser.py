"""The parser of filter predicates, ``?(@.price > 4 && !@.sold)``, and the comparison syntax of conditions.

Comparisons, ``&&``, ``||``, ``!``, parentheses, literals and paths from ``@`` or ``$`` are supported.
Everything else that JavaScript allows in a filter (arithmetic, calls, regular expressions) is rejected when
the flow is loaded: a filter that silently matched something else would be worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from airflow_allma.expressions.scanner import QUOTES, Scanner
from airflow_allma.expressions.syntax_tree import (
    BARE_SLOT,
    SLOT,
    And,
    Comparison,
    Literal,
    Not,
    Operand,
    Or,
    Predicate,
    Query,
    Segment,
    Truthiness,
)
from airflow_allma.expressions.undefined import NOTHING

__all__ = [
    "COMPARISONS",
    "LITERAL_WORDS",
    "NUMBER_PATTERN",
    "FilterParser",
    "parse_number",
    "take_comparison",
]

COMPARISONS: Final = ("===", "!==", "==", "!=", ">=", "<=", "=", ">", "<")

LITERAL_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None, "undefined": NOTHING}

_WORDS: Final = {**LITERAL_WORDS, SLOT: BARE_SLOT}

NUMBER_PATTERN: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")

_OPERATOR_CHARACTERS: Final = frozenset("<>=!~")
_FILTER_STOPS: Final = frozenset(" \t\n\r\f\v<>=!&|)],")
_ARITHMETIC: Final = frozenset("+-*/%")
_WORD_STOPS: Final = _FILTER_STOPS | frozenset("(['\"")


def take_comparison(scanner: Scanner) -> str | None:
    """Consume the operator characters that come next; return them if they are in ``COMPARISONS``, or None."""
    start = scanner.position
    while not scanner.at_end and scanner.current in _OPERATOR_CHARACTERS:
        scanner.position += 1
    operator = scanner.source[start : scanner.position]
    return operator if operator in COMPARISONS else None


def parse_number(source: str) -> int | float:
    """Return the value of a match of NUMBER_PATTERN: exact if it is an integer of a sane size."""
    return int(source) if source.lstrip("+-").isdigit() and len(source) < 400 else float(source)


class FilterParser:
    """The parser of the predicate after the ``?`` of a filter, up to the bracket that closes the filter.

    Args:
        scanner: it has just consumed the ``?``.
        parse_segments: parses the paths inside the filter; passed in because filters are inside paths too.
    """

    def __init__(
        self, scanner: Scanner, parse_segments: Callable[[Scanner, frozenset[str]], tuple[Segment, ...]]
    ) -> None:
        self._scanner = scanner
        self._parse_segments = parse_segments

    def parse(self) -> Predicate:
        """Return the predicate.

        Raises:
            ExpressionSyntaxError: this is not a predicate, or it has something that is not supported.
        """
        return self._or()

    def _or(self) -> Predicate:
        parts = [self._and()]
        while self._take_operator("||"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Predicate:
        parts = [self._not()]
        while self._take_operator("&&"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _take_operator(self, operator: str) -> bool:
        self._scanner.skip_spaces()
        return self._scanner.take(operator)

    def _not(self) -> Predicate:
        scanner = self._scanner
        negated = False
        scanner.skip_spaces()
        while scanner.take("!"):
            negated = not negated
            scanner.skip_spaces()
        inner = self._parentheses() if scanner.current == "(" else self._comparison(negated=negated)
        return Not(inner) if negated else inner

    def _parentheses(self) -> Predicate:
        scanner = self._scanner
        opening = scanner.position
        scanner.take("(")
        scanner.nest()
        inner = self._or()
        scanner.skip_spaces()
        if not scanner.take(")"):
            if scanner.at_end:
                scanner.fail("the parenthesis that opens here is not closed; add ')'", opening)
            scanner.fail("')' is expected here; a filter supports comparisons, '&&', '||', '!', parentheses")
        scanner.unnest()
        scanner.skip_spaces()
        if not scanner.at_end and scanner.current not in ")]&|":
            scanner.fail("an expression in parentheses cannot be compared or called; compare inside them")
        return inner

    def _comparison(self, *, negated: bool) -> Predicate:
        scanner = self._scanner
        left = self._operand()
        scanner.skip_spaces()
        start = scanner.position
        if scanner.current not in _OPERATOR_CHARACTERS:
            return Truthiness(left, empty_list_is_false=False)
        operator = take_comparison(scanner)
        if operator is None:
            scanner.fail(f"unknown comparison; use one of {' '.join(COMPARISONS)}", start)
        if operator == "=":
            scanner.fail("'=' assigns in a filter; write '==' to compare", start)
        if negated:
            scanner.fail(f"'!' here negates the left side only; write !(... {operator} ...)", start)
        return Comparison(operator, left, self._operand())

    def _operand(self) -> Operand:
        scanner = self._scanner
        scanner.skip_spaces()
        current = scanner.current
        start = scanner.position
        if not current:
            scanner.fail("the filter ends where a path or a literal is expected")
        if current in "@$":
            scanner.position += 1
            segments = self._parse_segments(scanner, _FILTER_STOPS | _ARITHMETIC)
            operand: Operand = Query(segments, from_item=current == "@")
        elif current in QUOTES:
            operand = Literal(scanner.take_quoted())
        elif matched := NUMBER_PATTERN.match(scanner.source, start, scanner.end):
            scanner.position = matched.end()
            operand = Literal(parse_number(matched.group()))
        else:
            word = scanner.take_until(_WORD_STOPS)
            if word not in _WORDS:
                scanner.fail(
                    "a path from '@' or '$', a quoted string, a number, true, false, null or undefined is "
                    "expected",
                    start,
                )
            operand = Literal(_WORDS[word])
        self._reject_arithmetic()
        return operand

    def _reject_arithmetic(self) -> None:
        scanner = self._scanner
        scanner.skip_spaces()
        if not scanner.at_end and scanner.current in _ARITHMETIC:
            scanner.fail(
                "filters support no arithmetic; compute the value in an earlier step, "
                "or put a name that contains this character in quotes: @['a-b']"
            )
