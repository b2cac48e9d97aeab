"""Conditions of transitions and branches: ``$.total > 100 && $.state == 'open' || $.forced``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from airflow_allma.expressions.closures import Matches, compile_predicate
from airflow_allma.expressions.filter_parser import (
    LITERAL_WORDS,
    NUMBER_PATTERN,
    parse_number,
    take_comparison,
)
from airflow_allma.expressions.path_parser import CONDITION_STOPS, parse_segments
from airflow_allma.expressions.paths import CACHE_SIZE
from airflow_allma.expressions.scanner import QUOTES, Scanner, check_source
from airflow_allma.expressions.syntax_tree import And, Comparison, Literal, Or, Predicate, Query, Truthiness

__all__ = ["Condition", "compile_condition", "parse_atoms", "parse_condition"]

_FALSE = Or(())


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled condition. It is immutable, so threads can share it.

    Attributes:
        source: the condition as written in the flow.
        matches: ``matches(context, load=None)`` returns True or False. It raises ExpressionEvaluationError if
            a path in the condition does; exceptions of ``load`` pass through.
        predicate: its syntax tree.
    """

    source: str
    matches: Matches = field(repr=False)
    predicate: Predicate = field(repr=False)


@lru_cache(maxsize=CACHE_SIZE)
def compile_condition(source: str) -> Condition:
    """Compile a condition. Equal strings return the same object while it is cached.

    By the rules of the language, an atom that does not begin with a path (``true``, ``1 == 1``, an empty
    string) is false. So is a comparison with an unknown operator or with a word that is not a literal.

    Raises:
        ExpressionSyntaxError: a path, quotes or a bracket is malformed, a comparison lacks its right side,
            or parentheses or ``!`` are used, which conditions do not support.
    """
    predicate = parse_condition(source)
    return Condition(source, compile_predicate(predicate, source), predicate)


def parse_condition(source: str) -> Predicate:
    """Return the syntax tree of a condition.

    Raises:
        ExpressionSyntaxError: as ``compile_condition``.
    """
    check_source(source)
    alternatives = [
        And(tuple(_atom(source, *span) for span in _split(source, start, end, "&&")))
        for start, end in _split(source, 0, len(source), "||")
    ]
    return _simplify(alternatives)


def parse_atoms(source: str) -> Iterator[tuple[str, Predicate]]:
    """Yield what ``&&`` and ``||`` connect: each atom as it is written, without the spaces around it.

    Raises:
        ExpressionSyntaxError: as ``compile_condition``.
    """
    check_source(source)
    for start, end in _split(source, 0, len(source), "||"):
        for span in _split(source, start, end, "&&"):
            yield source[slice(*span)].strip(), _atom(source, *span)


def _simplify(alternatives: list[And]) -> Predicate:
    parts = tuple(part.parts[0] if len(part.parts) == 1 else part for part in alternatives)
    return parts[0] if len(parts) == 1 else Or(parts)


def _split(source: str, start: int, end: int, separator: str) -> Iterator[tuple[int, int]]:
    """Yield the spans between the occurrences of an operator outside of brackets and quotes."""
    scanner = Scanner(source, start, end)
    open_brackets = 0
    while not scanner.at_end:
        current = scanner.current
        if current in QUOTES:
            scanner.take_quoted()
            continue
        if current == "[":
            open_brackets += 1
        elif current == "]":
            open_brackets -= 1
        elif open_brackets == 0 and scanner.starts_with(separator):
            yield start, scanner.position
            scanner.take(separator)
            start = scanner.position
            continue
        scanner.position += 1
    yield start, end


def _atom(source: str, start: int, end: int) -> Predicate:
    while end > start and source[end - 1].isspace():
        end -= 1
    scanner = Scanner(source, start, end)
    scanner.skip_spaces()
    if scanner.current and scanner.current in "!(":
        scanner.fail(
            "conditions support neither '!' nor '()'; compare with '== false', or use several transitions"
        )
    if not scanner.take("$"):
        return _FALSE
    left = Query(parse_segments(scanner, CONDITION_STOPS))
    scanner.skip_spaces()
    if scanner.at_end:
        return Truthiness(left, empty_list_is_false=True)
    operator = take_comparison(scanner)
    # The root itself is never compared: it has no order and equals only itself.
    if operator is None or not left.segments:
        return _FALSE
    scanner.skip_spaces()
    return _right_side(scanner, left, operator)


def _right_side(scanner: Scanner, left: Query, operator: str) -> Predicate:
    if scanner.at_end:
        scanner.fail("the comparison lacks its right side; add a literal or a path")
    if scanner.take("$"):
        right = Comparison(operator, left, Query(parse_segments(scanner, CONDITION_STOPS)))
        scanner.skip_spaces()
        if not scanner.at_end:
            scanner.fail("a condition ends after its right side; combine conditions with '&&' or '||'")
        return right
    if scanner.current in QUOTES:
        value = Literal(scanner.take_quoted())
        if not scanner.at_end:
            scanner.fail("a condition ends after its right side; combine conditions with '&&' or '||'")
        return Comparison(operator, left, value)
    word = scanner.source[scanner.position : scanner.end]
    if word in LITERAL_WORDS:
        return Comparison(operator, left, Literal(LITERAL_WORDS[word]))
    if NUMBER_PATTERN.fullmatch(word):
        return Comparison(operator, left, Literal(parse_number(word)))
    return _FALSE
