"""Conditions of transitions and branches: ``$.total > 100 && $.state == 'open' || $.forced``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from airflow_allma.expressions.compiling import Holds, compile_predicate
from airflow_allma.expressions.filter_syntax import NUMBER, WORDS, number, take_operator
from airflow_allma.expressions.path_syntax import CONDITION_STOPS, read_path
from airflow_allma.expressions.paths import CACHE_SIZE
from airflow_allma.expressions.scanner import QUOTES, Scanner, check_length
from airflow_allma.expressions.segments import And, Compare, Or, Predicate, Query, Truth, Value

__all__ = ["Condition", "compile_condition"]

_NEVER = Or(())


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled condition. It never changes: threads may share it.

    Attributes:
        text: the condition as it was written.
        holds: ``holds(context, load=None)`` gives True or False. It raises ExpressionEvaluationError when a
            path in it does; exceptions of ``load`` pass through.
    """

    text: str
    holds: Holds = field(repr=False)


@lru_cache(maxsize=CACHE_SIZE)
def compile_condition(text: str) -> Condition:
    """The compiled form of a condition; the same text gives the same object as long as it is cached.

    What is no path (``true``, ``1 == 1``, the empty text) never holds, and neither does a comparison with an
    unknown operator or with a word that is no literal: so the language has it.

    Raises:
        ExpressionSyntaxError: a path, quotes or a bracket is malformed, a comparison lacks its right side,
            or parentheses or ``!`` are used, which conditions do not have.
    """
    check_length(text)
    alternatives = [
        And(tuple(_atom(text, *span) for span in _split(text, start, end, "&&")))
        for start, end in _split(text, 0, len(text), "||")
    ]
    return Condition(text, compile_predicate(_simplest(alternatives), text))


def _simplest(alternatives: list[And]) -> Predicate:
    parts = tuple(part.parts[0] if len(part.parts) == 1 else part for part in alternatives)
    return parts[0] if len(parts) == 1 else Or(parts)


def _split(text: str, start: int, end: int, joint: str) -> Iterator[tuple[int, int]]:
    """The spans between joints that stand outside of brackets and quotes."""
    scanner = Scanner(text, start, end)
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
        elif open_brackets == 0 and scanner.starts_with(joint):
            yield start, scanner.position
            scanner.take(joint)
            start = scanner.position
            continue
        scanner.position += 1
    yield start, end


def _atom(text: str, start: int, end: int) -> Predicate:
    while end > start and text[end - 1].isspace():
        end -= 1
    scanner = Scanner(text, start, end)
    scanner.skip_spaces()
    if scanner.current and scanner.current in "!(":
        scanner.fail(
            "conditions have no '!' and no parentheses; compare with '== false', or use several transitions"
        )
    if not scanner.take("$"):
        return _NEVER
    left = Query(read_path(scanner, CONDITION_STOPS))
    scanner.skip_spaces()
    if scanner.at_end:
        return Truth(left, empty_list_is_false=True)
    operator = take_operator(scanner)
    # The whole context is compared with nothing: it has no order and equals nothing but itself.
    if operator is None or not left.segments:
        return _NEVER
    scanner.skip_spaces()
    return _right_side(scanner, left, operator)


def _right_side(scanner: Scanner, left: Query, operator: str) -> Predicate:
    if scanner.at_end:
        scanner.fail("the comparison lacks its right side; write a literal or a path")
    if scanner.take("$"):
        right = Compare(operator, left, Query(read_path(scanner, CONDITION_STOPS)))
        scanner.skip_spaces()
        if not scanner.at_end:
            scanner.fail("a condition ends after its right side; join conditions with '&&' or '||'")
        return right
    if scanner.current in QUOTES:
        value = Value(scanner.take_quoted())
        if not scanner.at_end:
            scanner.fail("a condition ends after its right side; join conditions with '&&' or '||'")
        return Compare(operator, left, value)
    word = scanner.text[scanner.position : scanner.end]
    if word in WORDS:
        return Compare(operator, left, Value(WORDS[word]))
    if NUMBER.fullmatch(word):
        return Compare(operator, left, Value(number(word)))
    return _NEVER
