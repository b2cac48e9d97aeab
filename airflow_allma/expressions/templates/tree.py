"""The tree of a template: what the parser makes and the compiler walks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Block",
    "Call",
    "Comment",
    "Expression",
    "Lookup",
    "Mustache",
    "Program",
    "Statement",
    "Strip",
    "Text",
    "Value",
]


@dataclass(frozen=True, slots=True)
class Strip:
    """Which sides of a pair of braces have a ``~``: white space beside them goes."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """A path: ``a.b``, ``../a``, ``this``, ``@index``, ``@root.a``.

    ``text`` is the path as written, ``up`` counts its ``../``, and ``is_scoped`` says that it begins with
    ``this``, ``.`` or ``..``, so that it is neither a helper nor a block parameter.
    """

    text: str
    position: int
    names: tuple[str, ...]
    up: int = 0
    is_data: bool = False
    is_scoped: bool = False

    @property
    def is_plain_name(self) -> bool:
        """Whether it could be the name of a helper or of a block parameter."""
        return len(self.names) == 1 and not (self.is_scoped or self.is_data)


@dataclass(frozen=True, slots=True)
class Value:
    """A literal: text, number, true, false, null, or NOTHING for undefined."""

    text: str
    position: int
    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A name with what stands behind it: ``name argument... key=argument...``."""

    text: str
    position: int
    callee: Lookup
    arguments: tuple[Expression, ...] = ()
    named: tuple[tuple[str, Expression], ...] = ()
    in_parentheses: bool = False


Expression = Lookup | Value | Call


@dataclass(slots=True)
class Text:
    """Text outside of braces.

    ``original`` is the text as written: it decides which blocks stand on lines of their own. ``value`` is
    what is left of it. The two marks say that a line's end was taken off already.
    """

    original: str
    value: str
    is_right_stripped: bool = False
    is_left_stripped: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """Nothing, but it counts where white space is stripped."""

    strip: Strip


@dataclass(frozen=True, slots=True)
class Mustache:
    """``{{...}}``: a value that is printed; a raw block is a literal."""

    expression: Call | Value
    strip: Strip


@dataclass(slots=True)
class Program:
    """Statements that stand side by side; ``is_chained`` marks the inside of an ``{{else if}}``."""

    body: list[Statement] = field(default_factory=list)
    is_chained: bool = False


@dataclass(slots=True)
class Block:
    """``{{#name ...}} program {{else}} inverse {{/name}}``.

    ``{{^name}}`` has its text in ``inverse``. ``parameters`` are the names after ``as``, with their places.
    """

    call: Call
    parameters: tuple[tuple[str, int], ...]
    program: Program | None
    inverse: Program | None
    opening: Strip
    inverse_strip: Strip
    closing: Strip


Statement = Text | Comment | Mustache | Block
