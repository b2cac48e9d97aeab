r"""The lexer of templates: source to tokens for text, comments and the content of braces.

Text can escape braces: ``\{{x}}`` is printed as ``{{x}}``, and ``\\{{x}}`` is a backslash before a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError

__all__ = ["Kind", "Token", "tokenize"]


class Kind(Enum):
    """The kinds of tokens."""

    TEXT = auto()
    """Text outside of braces, without escapes."""
    COMMENT = auto()
    """A whole ``{{! }}`` or ``{{!-- --}}``."""
    OPEN = auto()
    """``{{`` or ``{{&``."""
    OPEN_TRIPLE = auto()
    """``{{{``."""
    OPEN_BLOCK = auto()
    """``{{#``."""
    OPEN_INVERSE = auto()
    """``{{^`` with a name after it."""
    OPEN_CLOSING = auto()
    """``{{/``."""
    ELSE = auto()
    """A whole ``{{else}}`` or ``{{^}}``."""
    ELSE_CHAIN = auto()
    """``{{else`` with another block's name after it."""
    RAW = auto()
    """A whole ``{{{{raw}}}} ... {{{{/raw}}}}``; the value is the content."""
    CLOSE = auto()
    """``}}``."""
    CLOSE_TRIPLE = auto()
    """``}}}``."""
    NAME = auto()
    """One segment of a path; the value is the name without brackets and escapes."""
    NUMBER = auto()
    """A number literal."""
    STRING = auto()
    """A quoted string; the value is without quotes and escapes."""
    WORD = auto()
    """``true``, ``false``, ``null`` or ``undefined``."""
    SEPARATOR = auto()
    """``.`` or ``/`` between the segments of a path."""
    UP = auto()
    """``..``."""
    HERE = auto()
    """``.`` on its own."""
    DATA = auto()
    """``@``."""
    OPEN_PARENTHESIS = auto()
    """``(``."""
    CLOSE_PARENTHESIS = auto()
    """``)``."""
    EQUALS = auto()
    """``=`` of a named argument."""
    OPEN_PARAMETERS = auto()
    """``as |``."""
    CLOSE_PARAMETERS = auto()
    """``|``."""
    END = auto()
    """The end of the template."""


@dataclass(frozen=True, slots=True)
class Token:
    """A part of a template: ``source`` is written from ``start`` to ``end``, ``value`` is its meaning."""

    kind: Kind
    source: str
    value: str
    start: int

    @property
    def end(self) -> int:
        """Index after the last character."""
        return self.start + len(self.source)

    @property
    def strips_left(self) -> bool:
        """Whether this opening token has a ``~`` after its braces."""
        return self.source[2:3] == "~"

    @property
    def strips_right(self) -> bool:
        """Whether this closing token has a ``~`` before its braces."""
        return self.source[-3:-2] == "~"


# The first alternative that matches wins.
_OPENING: Final = re.compile(
    r"\{\{(?:"
    r"(?P<RAW>\{\{)"
    r"|(?P<PARTIAL>~?#?>)"
    r"|(?P<DECORATOR>~?#?\*)"
    r"|(?P<OPEN_BLOCK>~?#)"
    r"|(?P<OPEN_CLOSING>~?/)"
    r"|(?P<ELSE>~?(?:\^\s*|\s*else\b\s*)~?\}\})"
    r"|(?P<OPEN_INVERSE>~?\^)"
    r"|(?P<ELSE_CHAIN>~?\s*else\b)"
    r"|(?P<OPEN_TRIPLE>~?\{)"
    r"|(?P<LONG_COMMENT>~?!(?=--))"
    r"|(?P<COMMENT>~?!)"
    r"|(?P<OPEN>~?&?)"
    r")"
)
_ENDS_NAME: Final = r"(?=[=~}\s/.)\]|]|\Z)"
_NAME_CHARACTERS: Final = r"""[^\s!"#%-,./;->@\[-\^`{-~]++"""
_NAME: Final = re.compile(_NAME_CHARACTERS)
_ENDS_LITERAL: Final = r"(?=[~}\s)\]]|\Z)"
_INSIDE: Final = re.compile(
    r"(?P<SPACE>\s+)"
    r"|(?P<CLOSE_RAW>\}\}\}\})"
    r"|(?P<CLOSE_TRIPLE>\}~?\}\})"
    r"|(?P<CLOSE>~?\}\})"
    r"|(?P<OPEN_PARENTHESIS>\()"
    r"|(?P<CLOSE_PARENTHESIS>\))"
    r"|(?P<EQUALS>=)"
    r"|(?P<UP>\.\.)"
    rf"|(?P<HERE>\.{_ENDS_NAME})"
    r"|(?P<SEPARATOR>[./])"
    r'|(?P<STRING>"(?:\\"|[^"])*+"'
    r"|'(?:\\'|[^'])*+')"
    r"|(?P<DATA>@)"
    rf"|(?P<WORD>(?:true|false|undefined|null){_ENDS_LITERAL})"
    rf"|(?P<NUMBER>-?[0-9]+(?:\.[0-9]+)?{_ENDS_LITERAL})"
    r"|(?P<OPEN_PARAMETERS>as\s+\|)"
    r"|(?P<CLOSE_PARAMETERS>\|)"
    rf"|(?P<NAME>{_NAME_CHARACTERS}{_ENDS_NAME})"
    r"|(?P<BRACKETS>\[(?:\\\]|[^\]])*+\])"
)
_COMMENT_END: Final = re.compile(r"\}\}")
_LONG_COMMENT_END: Final = re.compile(r"--~?\}\}")
_RAW_OPENING: Final = re.compile(r"\{\{\{\{\s*(?P<name>[^\s{}]+)\s*\}\}\}\}")
_ESCAPED_IN_BRACKETS: Final = re.compile(r"\\([\\\]])")

_OPENING_NEEDS_INSIDE: Final = frozenset(
    {"OPEN_BLOCK", "OPEN_CLOSING", "OPEN_INVERSE", "ELSE_CHAIN", "OPEN_TRIPLE", "OPEN"}
)


def tokenize(source: str) -> list[Token]:
    """Return the tokens of a template. The last one is an END.

    Raises:
        ExpressionSyntaxError: a comment, a quoted string or a pair of braces is not closed, or a character is
            not allowed inside braces.
    """
    return list(_Lexer(source).tokens())


def _brackets(source: str) -> str:
    return _ESCAPED_IN_BRACKETS.sub(r"\1", source)[1:-1]


def _quoted(source: str) -> str:
    return source[1:-1].replace("\\" + source[0], source[0])


_VALUES: Final[dict[str, Callable[[str], str]]] = {"BRACKETS": _brackets, "STRING": _quoted}


class _Lexer:
    """One pass over a template that visits each character a bounded number of times."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0

    def tokens(self) -> Iterator[Token]:
        while self.position < len(self.source):
            opening = self.source.find("{{", self.position)
            if opening < 0:
                yield self._text(len(self.source))
                break
            if self.source.endswith("\\\\", self.position, opening):
                yield self._text(opening - 1)
                self.position = opening
            elif self.source.endswith("\\", self.position, opening):
                yield from self._escaped(opening)
                continue
            elif opening > self.position:
                yield self._text(opening)
            yield from self._braces()
        yield Token(Kind.END, "", "", len(self.source))

    def _text(self, end: int) -> Token:
        content = self.source[self.position : end]
        token = Token(Kind.TEXT, content, content, self.position)
        self.position = end
        return token

    def _escaped(self, opening: int) -> Iterator[Token]:
        """Yield the text before an escaped pair of braces, and the text from the braces to the next pair."""
        if opening - 1 > self.position:
            yield self._text(opening - 1)
        self.position = opening
        following = self.source.find("{{", opening + 2)
        end = len(self.source) if following < 0 else following
        for _ in range(2):
            if following > 0 and end > opening + 2 and self.source[end - 1] == "\\":
                end -= 1
        yield self._text(end)

    def _braces(self) -> Iterator[Token]:
        opening = _OPENING.match(self.source, self.position)
        if (
            opening is None or opening.lastgroup is None
        ):  # pragma: no cover - the last alternative always matches
            raise AssertionError(self.source[self.position :])
        name = opening.lastgroup
        if name in _OPENING_NEEDS_INSIDE:
            yield self._take(Kind[name], opening.end())
            yield from self._inside(opening.start())
        elif name == "ELSE":
            yield self._take(Kind.ELSE, opening.end())
        elif name == "RAW":
            yield self._raw()
        elif name in ("COMMENT", "LONG_COMMENT"):
            yield self._comment(opening.end(), is_long=name == "LONG_COMMENT")
        elif name == "PARTIAL":
            raise self._error(
                "partials are not supported; write the text itself, or render it in an earlier step"
            )
        else:
            raise self._error("decorators are not supported; remove the star")

    def _comment(self, start: int, *, is_long: bool) -> Token:
        match = (_LONG_COMMENT_END if is_long else _COMMENT_END).search(self.source, start)
        if match is None:
            raise self._error(f"the comment that opens here is not closed; add {'--}}' if is_long else '}}'}")
        return self._take(Kind.COMMENT, match.end())

    def _raw(self) -> Token:
        opening = _RAW_OPENING.match(self.source, self.position)
        if opening is None:
            raise self._error(
                "four braces open a raw block; write {{{{raw}}}} and close it with {{{{/raw}}}}"
            )
        if opening["name"] != "raw":
            raise self._error(
                f"unknown raw block {opening['name']!r}; {{{{{{{{raw}}}}}}}} prints its content unchanged"
            )
        closing = self.source.find("{{{{/raw}}}}", opening.end())
        if closing < 0:
            raise self._error("the raw block that opens here is not closed; add {{{{/raw}}}}")
        end = closing + len("{{{{/raw}}}}")
        token = Token(
            Kind.RAW, self.source[self.position : end], self.source[opening.end() : closing], self.position
        )
        self.position = end
        return token

    def _inside(self, opening: int) -> Iterator[Token]:
        """Yield the tokens up to the closing braces, inclusive."""
        while self.position < len(self.source):
            match = _INSIDE.match(self.source, self.position)
            if match is None or match.lastgroup is None:
                raise self._error_inside(opening)
            name = match.lastgroup
            if name == "SPACE":
                self.position = match.end()
                continue
            if name == "CLOSE_RAW":
                raise self._error("four braces close a raw block only; put a space between the braces")
            kind = Kind.NAME if name == "BRACKETS" else Kind[name]
            yield self._take(kind, match.end(), _VALUES.get(name))
            if kind in (Kind.CLOSE, Kind.CLOSE_TRIPLE):
                return
        raise self._error("the braces that open here are not closed; add }}", opening)

    def _take(self, kind: Kind, end: int, value: Callable[[str], str] | None = None) -> Token:
        source = self.source[self.position : end]
        token = Token(kind, source, value(source) if value else source, self.position)
        self.position = end
        return token

    def _error_inside(self, opening: int) -> ExpressionSyntaxError:
        character = self.source[self.position]
        if name := _NAME.match(self.source, self.position):
            # The name is fine; the character after it is wrong.
            if self.source[name.end()] == "[":
                return self._error(f"an index needs a dot before it: {name[0]}.[0]", name.end())
            return self._error_at(name.end())
        if character in "\"'":
            return self._error(f"the quotes that open here are not closed; add {character}")
        if character == "[":
            return self._error("the bracket that opens here is not closed; add ]")
        if character == "{":
            return self._error("the braces before this are not closed; add }}", opening)
        return self._error_at(self.position)

    def _error_at(self, position: int) -> ExpressionSyntaxError:
        return self._error(
            f"{self.source[position]!r} is not allowed here; "
            "write a name with such characters in brackets: {{[a name]}}",
            position,
        )

    def _error(self, reason: str, position: int | None = None) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(reason, self.source, self.position if position is None else position)
