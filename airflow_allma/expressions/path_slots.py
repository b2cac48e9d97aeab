"""Paths in which the author wrote templates: ``$.prices.{{currency}}``, ``$.users[?(@.id == '{{id}}')]``.

The author's text is the path's syntax. What a template in it renders is a value: the name of a member, an
index, or a literal of a filter. No value can add a segment, an operator or a filter, whatever it contains.

A slot is the place of one such template. The path is parsed with the character ``SLOT`` in each slot, and the
values are put into the parsed path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.filter_parser import LITERAL_WORDS, NUMBER_PATTERN, parse_number
from airflow_allma.expressions.paths import CACHE_SIZE, Path, parse_path, path_of
from airflow_allma.expressions.scanner import check_length
from airflow_allma.expressions.syntax_tree import (
    BARE_SLOT,
    SLOT,
    And,
    Comparison,
    DynamicKey,
    Filter,
    Key,
    Literal,
    Not,
    Operand,
    Or,
    Predicate,
    Query,
    Segment,
    Truthiness,
    Union,
    make_key,
)
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["bind_path", "check_pattern", "fill_slots"]

# The brackets of slices and of lists of indexes.
_NUMBERS: Final = re.compile(rf"\[[-0-9,: {SLOT}]*[,:][-0-9,: {SLOT}]*\]")
_NUMBER: Final = re.compile(r"(?:-?[0-9]{1,9})?")


def fill_slots(pattern: str, values: Iterable[str]) -> str:
    """Return the pattern with the values in its slots, as text."""
    first, *rest = pattern.split(SLOT)
    return first + "".join(value + part for value, part in zip(values, rest, strict=False))


def check_pattern(pattern: str) -> None:
    """Check that a pattern is a path whatever its slots contain.

    Raises:
        ExpressionSyntaxError: it is not; the position is that in the pattern.
    """
    # "1" fits everywhere: it is a name, an index, and a literal.
    bind_path(pattern, ("1",) * pattern.count(SLOT))


@lru_cache(maxsize=CACHE_SIZE)
def bind_path(pattern: str, values: tuple[str, ...]) -> Path:
    """Return the path that a pattern is with these values, one for each slot.

    Raises:
        ExpressionSyntaxError: the pattern is not a JSONPath, it is too long with its values, or a bound of a
            slice or an index in a list is not a whole number.
    """
    check_length(fill_slots(pattern, values))
    shown = pattern.replace(SLOT, "{{...}}")
    pattern, names = _insert_numbers(pattern, values, shown)
    return path_of(_Binder(names).segments(parse_path(pattern)), shown)


def _insert_numbers(pattern: str, values: Sequence[str], shown: str) -> tuple[str, list[str]]:
    """Write the values in the brackets of slices and lists into the pattern, and return the other values."""
    names: list[str] = []
    written: list[str] = []
    end = used = 0
    for match in _NUMBERS.finditer(pattern):
        before = used + pattern.count(SLOT, end, match.start())
        numbers = values[before : before + match.group().count(SLOT)]
        for number in numbers:
            if not _NUMBER.fullmatch(number):
                raise ExpressionSyntaxError(
                    "a template next to ':' or ',' in brackets must render to a whole number", shown
                )
        names += values[used:before]
        written += pattern[end : match.start()], fill_slots(match.group(), numbers)
        used, end = before + len(numbers), match.end()
    return "".join((*written, pattern[end:])), [*names, *values[used:]]


class _Binder:
    """Puts values into the slots of a parsed path, in the order in which they are written."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = iter(values)

    def segments(self, segments: Iterable[Segment]) -> tuple[Segment, ...]:
        return tuple(self._segment(segment) for segment in segments)

    def _segment(self, segment: Segment) -> Segment:
        match segment:
            case Key():
                return self._key(segment)
            case Union(keys):
                return Union(tuple(self._key(key) for key in keys))
            case DynamicKey(query, source):
                return DynamicKey(self._query(query), source.replace(SLOT, "{{...}}"))
            case Filter(predicate):
                return Filter(self._predicate(predicate))
            case _:
                return segment

    def _key(self, key: Key) -> Key:
        return make_key(self._text(key.name)) if SLOT in key.name else key

    def _text(self, text: str) -> str:
        first, *rest = text.split(SLOT)
        return first + "".join(next(self._values) + part for part in rest)

    def _query(self, query: Query) -> Query:
        return replace(query, segments=self.segments(query.segments))

    def _predicate(self, predicate: Predicate) -> Predicate:
        match predicate:
            case Comparison(operator, left, right):
                return Comparison(operator, self._operand(left), self._operand(right))
            case Truthiness(operand, empty_list_is_false):
                return Truthiness(self._operand(operand), empty_list_is_false)
            case Not(inner):
                return Not(self._predicate(inner))
            case And(parts):
                return And(tuple(self._predicate(part) for part in parts))
            case Or(parts):
                return Or(tuple(self._predicate(part) for part in parts))

    def _operand(self, operand: Operand) -> Operand:
        if isinstance(operand, Query):
            return self._query(operand)
        if operand.value is BARE_SLOT:
            return Literal(_literal(next(self._values)))
        return Literal(self._text(operand.value)) if isinstance(operand.value, str) else operand


def _literal(text: str) -> Any:
    """Return the literal that a filter's author would get by writing ``text`` there, or else the string."""
    if not text:
        return NOTHING
    if NUMBER_PATTERN.fullmatch(text):
        return parse_number(text)
    return LITERAL_WORDS.get(text, text)
