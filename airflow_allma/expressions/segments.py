"""The parts of a JSONPath and the trees of conditions and filters: what the parser makes, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "And",
    "Compare",
    "Descend",
    "Dynamic",
    "Each",
    "Filter",
    "Key",
    "Not",
    "Operand",
    "Or",
    "Query",
    "Segment",
    "Slice",
    "Truth",
    "Union",
    "Value",
]


@dataclass(frozen=True, slots=True)
class Key:
    """``.name``, ``['name']`` or ``[0]``: one member of an object or one item of a list.

    ``index`` is the position in a list that the name stands for, or -1 if it is no position.
    """

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Dynamic:
    """``[$.a.b]``: the key or index that another path finds in the whole data."""

    query: Query
    text: str


@dataclass(frozen=True, slots=True)
class Each:
    """``*``: every member or item."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``[start:end:step]`` of a list; the step is 1 or more."""

    start: int | None
    end: int | None
    step: int


@dataclass(frozen=True, slots=True)
class Union:
    """``[0,2]`` or ``['a','b']``: several keys, in the order they were written."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Descend:
    """``..``: the value and every object and list below it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """``[?(...)]``: the members or items for which a predicate holds."""

    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Query:
    """A path inside an expression: from the whole data (``$``), or from the current item (``@``)."""

    segments: tuple[Segment, ...]
    from_item: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """A literal: JSON scalar, or NOTHING for the word ``undefined``."""

    value: Any


@dataclass(frozen=True, slots=True)
class Truth:
    """A bare operand; ``empty_list_is_false`` is the rule of conditions, not of filters."""

    operand: Operand
    empty_list_is_false: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """``left operator right``; the operator is one of the comparisons' table."""

    operator: str
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Not:
    """``!(...)``."""

    inner: Predicate


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; none of them is an empty And, which holds."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One part holds at least; an empty Or never holds."""

    parts: tuple[Predicate, ...]


Segment = Key | Dynamic | Each | Slice | Union | Descend | Filter
Operand = Query | Value
Predicate = Truth | Compare | Not | And | Or
