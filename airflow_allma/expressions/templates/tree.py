"""The syntax tree of a template: built by the parser, cut by ``whitespace``, walked by the compiler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Block",
    "Call",
    "Comment",
    "Content",
    "Expression",
    "Literal",
    "Lookup",
    "Mustache",
    "Program",
    "Statement",
    "StripFlags",
]


@dataclass(frozen=True, slots=True)
class StripFlags:
    """Which sides of a pair of braces have a ``~``, which removes the white space next to them."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """A path: ``a.b``, ``../a``, ``this``, ``@index``, ``@root.a``.

    ``source`` is the path as written, and ``up`` counts its ``../``. ``is_scoped`` means that it begins with
    ``this``, ``.`` or ``..``, so it is neither a helper nor a block parameter.
    """

    source: str
    position: int
    names: tuple[str, ...]
    up: int = 0
    is_data: bool = False
    is_scoped: bool = False

    @property
    def is_plain_name(self) -> bool:
        """Whether this can be the name of a helper or of a block parameter."""
        return len(self.names) == 1 and not (self.is_scoped or self.is_data)


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal: a string, a number, true, false, null, or NOTHING for undefined."""

    source: str
    position: int
    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A name and its arguments: ``name argument... key=argument...``."""

    source: str
    position: int
    callee: Lookup
    arguments: tuple[Expression, ...] = ()
    named: tuple[tuple[str, Expression], ...] = ()
    in_parentheses: bool = False


Expression = Lookup | Literal | Call


@dataclass(slots=True)
class Content:
    """Text outside of braces.

    ``original`` is the text as written: it decides which blocks are on lines of their own. ``value`` is the
    text after stripping. The two flags mean that this side has been stripped already.
    """

    original: str
    value: str
    is_right_stripped: bool = False
    is_left_stripped: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment writes nothing, but it affects how white space is stripped."""

    strip: StripFlags


@dataclass(frozen=True, slots=True)
class Mustache:
    """``{{...}}``: a value that is printed."""

    expression: Call | Literal
    strip: StripFlags


@dataclass(slots=True)
class Program:
    """A sequence of statements; ``is_chained`` marks the body of an ``{{else if}}``."""

    body: list[Statement] = field(default_factory=list)
    is_chained: bool = False


@dataclass(slots=True)
class Block:
    """``{{#name ...}} program {{else}} inverse {{/name}}``.

    ``{{^name}}`` has its body in ``inverse``. ``parameters`` are the names after ``as`` and their positions.
    """

    call: Call
    parameters: tuple[tuple[str, int], ...]
    program: Program | None
    inverse: Program | None
    opening: StripFlags
    inverse_strip: StripFlags
    closing: StripFlags


Statement = Content | Comment | Mustache | Block
