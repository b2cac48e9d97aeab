"""A cursor over an expression that knows where parsing failed."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, NoReturn

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.syntax_tree import SLOT

__all__ = [
    "MAX_LENGTH",
    "MAX_NESTING",
    "QUOTES",
    "Scanner",
    "Token",
    "check_length",
    "check_no_slot",
    "check_source",
]

MAX_LENGTH: Final = 10_000
"""Maximum length of an expression, in characters."""

MAX_NESTING: Final = 32
"""Maximum number of brackets, parentheses and paths within paths that are open at the same time."""

QUOTES: Final = "'\""


def check_length(source: str) -> None:
    """Check that an expression is a string of at most ``MAX_LENGTH`` characters.

    Raises:
        ExpressionSyntaxError: it is not; the position is always 0.
    """
    if not isinstance(source, str):
        raise ExpressionSyntaxError(
            f"an expression must be a string, not {type(source).__name__}; put it in quotes", str(source)
        )
    if len(source) > MAX_LENGTH:
        raise ExpressionSyntaxError(
            f"the expression has {len(source)} characters, but at most {MAX_LENGTH} are allowed; "
            "split it into several steps",
            source[:80] + "...",
        )


def check_source(source: str) -> None:
    """Check an expression as ``check_length`` and ``check_no_slot`` do.

    Raises:
        ExpressionSyntaxError: it is too long, or contains the character ``SLOT``.
    """
    check_length(source)
    check_no_slot(source)


def check_no_slot(source: str) -> None:
    """Check that an expression does not contain the character ``SLOT``.

    Raises:
        ExpressionSyntaxError: it does.
    """
    if (position := source.find(SLOT)) >= 0:
        raise ExpressionSyntaxError("the character U+FDD0 is not allowed here", source, position)


class Token(NamedTuple):
    """A lexical token of a path.

    ``type`` is a terminal of jsonpath-ng's grammar. ``position`` is the index in the expression that a syntax
    error points at. jsonpath-ng's parser expects the other fields when it reports an error.
    """

    type: str
    value: Any
    position: int
    lineno: int = 1
    col: int = 0
    lexer: Any = None


class Scanner:
    """A position in a string that advances as parts are consumed. Scanning stops at ``end``."""

    __slots__ = ("depth", "end", "position", "source")

    def __init__(self, source: str, position: int = 0, end: int | None = None) -> None:
        self.source = source
        self.position = position
        self.end = len(source) if end is None else end
        self.depth = 0

    @property
    def at_end(self) -> bool:
        """Whether everything is consumed."""
        return self.position >= self.end

    @property
    def current(self) -> str:
        """The next character, or an empty string at the end."""
        return self.source[self.position] if self.position < self.end else ""

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        """Raise an ExpressionSyntaxError that points at ``position``, by default at the next character."""
        raise ExpressionSyntaxError(reason, self.source, self.position if position is None else position)

    def starts_with(self, prefix: str) -> bool:
        """Return whether ``prefix`` comes next."""
        return self.source.startswith(prefix, self.position, self.end)

    def take(self, prefix: str) -> bool:
        """Consume ``prefix`` if it comes next, and return whether it did."""
        if self.starts_with(prefix):
            self.position += len(prefix)
            return True
        return False

    def skip_spaces(self) -> None:
        """Consume white space."""
        while self.position < self.end and self.source[self.position].isspace():
            self.position += 1

    def take_until(self, stops: frozenset[str]) -> str:
        """Consume everything up to the next character in ``stops``, or up to the end, and return it."""
        start = self.position
        while self.position < self.end and self.source[self.position] not in stops:
            self.position += 1
        return self.source[start : self.position]

    def take_quoted(self) -> str:
        """Consume a quoted string and return its content. A backslash escapes a quote or a backslash.

        Raises:
            ExpressionSyntaxError: the quotes are not closed.
        """
        start = self.position
        quote = self.source[start]
        self.position += 1
        parts: list[str] = []
        while True:
            if self.at_end:
                self.fail(f"the quotes that open here are not closed; add {quote}", start)
            character = self.source[self.position]
            self.position += 1
            if character == quote:
                return "".join(parts)
            if character == "\\" and self.current and self.current in (quote, "\\"):
                character = self.current
                self.position += 1
            parts.append(character)

    def nest(self) -> None:
        """Enter a bracket, parenthesis or inner path; ``unnest`` leaves it.

        Raises:
            ExpressionSyntaxError: more than ``MAX_NESTING`` are open.
        """
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"the expression is nested deeper than {MAX_NESTING} levels; split it up")

    def unnest(self) -> None:
        """Leave what ``nest`` entered."""
        self.depth -= 1
