"""Syntax trees of paths, filters and conditions: frozen nodes that the parsers build."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "BARE_SLOT",
    "SLOT",
    "And",
    "Comparison",
    "Descendants",
    "DynamicKey",
    "Filter",
    "Key",
    "Literal",
    "Not",
    "Operand",
    "Or",
    "Predicate",
    "Query",
    "Segment",
    "Slice",
    "Truthiness",
    "Union",
    "Wildcard",
    "make_key",
]

# Indexes from 1,000,000,000 on are names of object members, not positions in a list.
_INDEX: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")


SLOT: Final = "\ufdd0"
"""Represents a value in a path that is parsed before its values are known, see ``path_slots``.

A noncharacter of Unicode, which text is not meant to contain; expressions with it are rejected.
"""

BARE_SLOT: Final = object()
"""The value of a ``Literal`` for a slot without quotes, whose type depends on the value."""


@dataclass(frozen=True, slots=True)
class Key:
    """``.name``, ``['name']`` or ``[0]``: one member of an object or one item of a list.

    ``index`` is the list index that the name represents, or -1 if the name is not an index.
    """

    name: str
    index: int


def make_key(name: str) -> Key:
    """Return the segment for the object member ``name``, or for the list item with that index."""
    return Key(name, int(name) if _INDEX.match(name) else -1)


@dataclass(frozen=True, slots=True)
class DynamicKey:
    """``[$.a.b]``: a key or index that another path finds in the root data."""

    query: Query
    source: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*``: every member or item."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``[start:end:step]`` of a list; the step is at least 1."""

    start: int | None
    end: int | None
    step: int


@dataclass(frozen=True, slots=True)
class Union:
    """``[0,2]`` or ``['a','b']``: several keys, in the order in which they are written."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Descendants:
    """``..``: the value and every object and list below it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """``[?(...)]``: the members or items that match a predicate."""

    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Query:
    """A path inside an expression: from the root data (``$``) or from the current item (``@``)."""

    segments: tuple[Segment, ...]
    from_item: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """A JSON scalar, or NOTHING for the word ``undefined``."""

    value: Any


@dataclass(frozen=True, slots=True)
class Truthiness:
    """A bare operand. Conditions set ``empty_list_is_false``, filters do not."""

    operand: Operand
    empty_list_is_false: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``; the operator is one of ``filter_parser.COMPARISONS``."""

    operator: str
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Not:
    """``!(...)``."""

    inner: Predicate


@dataclass(frozen=True, slots=True)
class And:
    """True if all parts are; an empty And is always true."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True if at least one part is; an empty Or is always false."""

    parts: tuple[Predicate, ...]


Segment = Key | DynamicKey | Wildcard | Slice | Union | Descendants | Filter
Operand = Query | Literal
Predicate = Truthiness | Comparison | Not | And | Or
