"""The automaton of a regular expression: one state for each character or class that it names (Glushkov)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Final

__all__ = ["Automaton", "Fragment", "TooComplexError", "operations", "parse_pattern"]

_MAX_STATES: Final = 400

# The parser of ``re`` has no public name; ``sre_parse`` is the same module under a deprecated one.
_PARSER: Final[Any] = import_module("re._parser")
_C: Final[Any] = import_module("re._constants")

_CATEGORIES: Final = {
    _C.CATEGORY_DIGIT: re.compile(r"\d"),
    _C.CATEGORY_NOT_DIGIT: re.compile(r"\D"),
    _C.CATEGORY_SPACE: re.compile(r"\s"),
    _C.CATEGORY_NOT_SPACE: re.compile(r"\S"),
    _C.CATEGORY_WORD: re.compile(r"\w"),
    _C.CATEGORY_NOT_WORD: re.compile(r"\W"),
}
_SAMPLE: Final = frozenset([*map(chr, range(128)), *"\x85\xa0éß\u0130\u017f\u0663\u0967中\u2028\ufeff😀"])
"""Characters that represent all others; those that a pattern names, and their neighbours, are added."""


class TooComplexError(Exception):
    """The pattern has something that the analysis does not cover; the argument is a sentence about it."""


def parse_pattern(pattern: str) -> Any:
    """Return the syntax tree that ``re`` makes of a pattern.

    Raises:
        re.error: it is not valid.
        RecursionError: it is nested too deeply.
        OverflowError: a repeat is too large.
    """
    return _PARSER.parse(pattern)


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of the automaton.

    Attributes:
        nullable: whether it matches the empty text.
        first: the states in which it can begin.
        last: the states in which it can end.
        has_choice: whether something in it matches the empty text in several ways, which no state shows.
    """

    nullable: bool
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    has_choice: bool = False


_EMPTY: Final = Fragment(nullable=True)


class Automaton:
    """The states of a pattern.

    Attributes:
        accepts: state -> the characters of the sample that it accepts.
        follow: state -> the states that can follow it, each with the number of ways.
        whole: the pattern.
        optional: how many optional parts and alternatives it has.
        is_ambiguous: whether a loop can repeat something that matches the empty text, or does so in several
            ways.
    """

    def __init__(self, tree: Any) -> None:
        self._ignores_case = _ignores_case(tree)
        self._sample = _SAMPLE | {
            chr(code + offset)
            for code in _named(tree)
            for offset in (-1, 0, 1)
            if 0 <= code + offset <= 0x10FFFF
        }
        self.accepts: list[frozenset[str]] = []
        self.follow: list[Counter[int]] = []
        self.is_ambiguous = False
        self.optional = 0
        self._lookarounds: list[Any] = []
        self.whole = self._sequence(tree)
        for inner in self._lookarounds:
            self._sequence(inner)

    def _sequence(self, items: Iterable[tuple[Any, Any]]) -> Fragment:
        whole = _EMPTY
        for op, value in items:
            whole = self._joined(whole, self._part(op, value))
        return whole

    def _part(self, op: Any, value: Any) -> Fragment:
        if op in {_C.LITERAL, _C.NOT_LITERAL, _C.ANY, _C.IN}:
            return self._state(self._characters(op, value))
        if op is _C.SUBPATTERN:
            return self._sequence(value[3])
        if op is _C.ATOMIC_GROUP:
            return self._sequence(value)
        if op is _C.BRANCH:
            return self._either([self._sequence(branch) for branch in value[1]])
        if op in {_C.MAX_REPEAT, _C.MIN_REPEAT, _C.POSSESSIVE_REPEAT}:
            return self._repeat(*value)
        if op in {_C.ASSERT, _C.ASSERT_NOT}:
            self._lookarounds.append(value[1])
            return _EMPTY
        if op is _C.AT:
            return _EMPTY
        raise TooComplexError("references to groups are not supported; write the pattern without them")

    def _state(self, accepted: frozenset[str]) -> Fragment:
        if len(self.accepts) >= _MAX_STATES:
            raise TooComplexError(
                f"it has more than {_MAX_STATES} characters and classes, repeats written out; shorten it"
            )
        self.accepts.append(accepted)
        self.follow.append(Counter())
        state = len(self.accepts) - 1
        return Fragment(nullable=False, first=(state,), last=(state,))

    def _joined(self, left: Fragment, right: Fragment) -> Fragment:
        self._link(left.last, right.first)
        return Fragment(
            left.nullable and right.nullable,
            left.first + right.first if left.nullable else left.first,
            left.last + right.last if right.nullable else right.last,
            left.has_choice or right.has_choice,
        )

    def _link(self, last: Sequence[int], first: Sequence[int]) -> None:
        for state in last:
            self.follow[state].update(first)

    def _either(self, branches: Sequence[Fragment]) -> Fragment:
        self.optional += len(branches) - 1
        return Fragment(
            any(branch.nullable for branch in branches),
            tuple(state for branch in branches for state in branch.first),
            tuple(state for branch in branches for state in branch.last),
            any(branch.has_choice for branch in branches) or sum(branch.nullable for branch in branches) > 1,
        )

    def _repeat(self, least: int, most: Any, body: Any) -> Fragment:
        if most == 0:
            return _EMPTY
        part = self._sequence(body)
        if most == 1:
            self.optional += least == 0
            if least:
                return part
            return replace(part, nullable=True, has_choice=part.has_choice or part.nullable)
        if least == most:
            return self._copies(part, least, body)
        self.is_ambiguous |= part.has_choice or (part.nullable and bool(part.first))
        self._link(part.last, part.first)
        return replace(part, nullable=part.nullable or least == 0)

    def _copies(self, part: Fragment, count: int, body: Any) -> Fragment:
        self.is_ambiguous |= part.has_choice
        size = len(part.first) and len(self.accepts)
        if size and not part.nullable and count * _size_of(body) + len(self.accepts) <= _MAX_STATES:
            for _ in range(count - 1):
                part = self._joined(part, self._sequence(body))
            return part
        # Too many to write out: a loop has more matches, so what holds for it holds here.
        self.is_ambiguous |= part.nullable and bool(part.first)
        self._link(part.last, part.first)
        return part

    def _characters(self, op: Any, value: Any) -> frozenset[str]:
        if op is _C.ANY:
            return self._sample
        if op is _C.LITERAL:
            return self._cased({chr(value)})
        if op is _C.NOT_LITERAL:
            return self._sample - {chr(value)}
        accepted: set[str] = set()
        negated = False
        for kind, item in value:
            if kind is _C.NEGATE:
                negated = True
            elif kind is _C.LITERAL:
                accepted.add(chr(item))
            elif kind is _C.RANGE:
                accepted |= {one for one in self._sample if item[0] <= ord(one) <= item[1]}
            else:
                accepted |= {one for one in self._sample if _CATEGORIES[item].match(one)}
        cased = self._cased(accepted)
        return self._sample - accepted if negated else cased

    def _cased(self, accepted: set[str]) -> frozenset[str]:
        if not self._ignores_case:
            return frozenset(accepted)
        return frozenset(
            variant for one in accepted for variant in (one, one.lower(), one.upper()) if len(variant) == 1
        )


def operations(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all operations of a parsed pattern, outer ones first."""
    waiting = [tree]
    while waiting:
        for op, value in waiting.pop():
            yield op, value
            if op in {_C.MAX_REPEAT, _C.MIN_REPEAT, _C.POSSESSIVE_REPEAT}:
                waiting.append(value[2])
            elif op is _C.SUBPATTERN:
                waiting.append(value[3])
            elif op is _C.BRANCH:
                waiting.extend(value[1])
            elif op in {_C.ASSERT, _C.ASSERT_NOT}:
                waiting.append(value[1])
            elif op is _C.ATOMIC_GROUP:
                waiting.append(value)


def _size_of(tree: Any) -> int:
    return sum(1 for op, _ in operations(tree) if op in {_C.LITERAL, _C.NOT_LITERAL, _C.ANY, _C.IN}) * max(
        1, _largest_copies(tree)
    )


def _largest_copies(tree: Any) -> int:
    copies = 1
    for op, value in operations(tree):
        if op in {_C.MAX_REPEAT, _C.MIN_REPEAT, _C.POSSESSIVE_REPEAT} and value[0] == value[1]:
            copies = min(_MAX_STATES, copies * max(1, value[0]))
    return copies


def _named(tree: Any) -> Iterator[int]:
    """Yield the code points that a pattern names."""
    for op, value in operations(tree):
        if op in {_C.LITERAL, _C.NOT_LITERAL}:
            yield value
        elif op is _C.IN:
            for kind, item in value:
                if kind is _C.LITERAL:
                    yield item
                elif kind is _C.RANGE:
                    yield from item


def _ignores_case(tree: Any) -> bool:
    flags = tree.state.flags
    for op, value in operations(tree):
        if op is _C.SUBPATTERN:
            flags |= value[1]
    return bool(flags & re.IGNORECASE)
