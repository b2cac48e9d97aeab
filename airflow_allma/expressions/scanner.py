"""Reads an expression from left to right, and says where it went wrong."""

from __future__ import annotations

from typing import Final, NoReturn

from airflow_allma.exceptions import ExpressionSyntaxError

__all__ = ["MAX_LENGTH", "MAX_NESTING", "QUOTES", "Scanner", "check_length"]

MAX_LENGTH: Final = 10_000
"""Longest expression, in characters."""

MAX_NESTING: Final = 32
"""Most brackets, parentheses and paths within paths that may be open at once."""

QUOTES: Final = "'\""


def check_length(text: str) -> None:
    """Refuse what is no text, or longer than ``MAX_LENGTH``.

    Raises:
        ExpressionSyntaxError: always with position 0.
    """
    if not isinstance(text, str):
        raise ExpressionSyntaxError(
            f"an expression is a text, not {type(text).__name__}; put it in quotes", str(text)
        )
    if len(text) > MAX_LENGTH:
        raise ExpressionSyntaxError(
            f"the expression has {len(text)} characters; {MAX_LENGTH} is the most, split it in several steps",
            text[:80] + "...",
        )


class Scanner:
    """A position in a text that moves on as things are read; ``end`` is where reading stops."""

    __slots__ = ("depth", "end", "position", "text")

    def __init__(self, text: str, position: int = 0, end: int | None = None) -> None:
        self.text = text
        self.position = position
        self.end = len(text) if end is None else end
        self.depth = 0

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.position >= self.end

    @property
    def current(self) -> str:
        """The next character; the empty text at the end."""
        return self.text[self.position] if self.position < self.end else ""

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        """Raise an ExpressionSyntaxError that points at ``position``, or at the next character."""
        raise ExpressionSyntaxError(reason, self.text, self.position if position is None else position)

    def starts_with(self, prefix: str) -> bool:
        """Whether ``prefix`` comes next."""
        return self.text.startswith(prefix, self.position, self.end)

    def take(self, prefix: str) -> bool:
        """Move over ``prefix`` if it comes next."""
        if self.starts_with(prefix):
            self.position += len(prefix)
            return True
        return False

    def skip_spaces(self) -> None:
        """Move over white space."""
        while self.position < self.end and self.text[self.position].isspace():
            self.position += 1

    def take_until(self, stops: frozenset[str]) -> str:
        """The text up to the next character that is one of ``stops``, or up to the end."""
        start = self.position
        while self.position < self.end and self.text[self.position] not in stops:
            self.position += 1
        return self.text[start : self.position]

    def take_quoted(self) -> str:
        """The text between the quotes that open here; a backslash goes before a quote or a backslash.

        Raises:
            ExpressionSyntaxError: the quotes are not closed.
        """
        opened = self.position
        quote = self.text[opened]
        self.position += 1
        parts: list[str] = []
        while True:
            if self.at_end:
                self.fail(f"the quotes that open here are not closed; add {quote}", opened)
            character = self.text[self.position]
            self.position += 1
            if character == quote:
                return "".join(parts)
            if character == "\\" and self.current and self.current in (quote, "\\"):
                character = self.current
                self.position += 1
            parts.append(character)

    def nest(self) -> None:
        """Count one more open bracket, parenthesis or inner path; ``unnest`` closes it.

        Raises:
            ExpressionSyntaxError: more than ``MAX_NESTING`` are open.
        """
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"the expression is nested deeper than {MAX_NESTING} levels; take it apart")

    def unnest(self) -> None:
        """Close what ``nest`` opened."""
        self.depth -= 1
