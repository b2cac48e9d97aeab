"""Fields of cron expressions: their syntax and their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError

__all__ = [
    "HOURS",
    "MINUTES",
    "MONTHS",
    "MONTH_DAYS",
    "MONTH_NAMES",
    "UNIX_WEEKDAYS",
    "WEEKDAYS",
    "WEEKDAY_NAMES",
    "YEARS",
    "Field",
    "Word",
    "split_words",
]

MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class Word:
    """A part of an expression, and its position.

    Attributes:
        source: the part as written.
        expression: the whole expression.
        start: the 0-based index of the part in the expression.
    """

    source: str
    expression: str
    start: int

    def error(self, reason: str) -> ExpressionSyntaxError:
        """Return the error to raise for this part."""
        return ExpressionSyntaxError(reason, self.expression, self.start)

    def split(self, separator: str) -> list[Word]:
        """Return the parts between separators, each with its position."""
        parts, start = [], self.start
        for source in self.source.split(separator):
            parts.append(Word(source, self.expression, start))
            start += len(source) + len(separator)
        return parts


def split_words(body: Word) -> list[Word]:
    """Return the parts between white space, each with its position."""
    words, position = [], 0
    for source in body.source.split():
        position = body.source.index(source, position)
        words.append(Word(source, body.expression, body.start + position))
        position += len(source)
    return words


@dataclass(frozen=True, slots=True)
class Field:
    """The syntax of one field of a cron expression.

    Attributes:
        name: its name in errors.
        low: the smallest value.
        high: the largest value.
        names: the names of values, in upper case.
        steps: whether ``/`` is allowed.
    """

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    steps: bool = True

    def values(self, word: Word) -> tuple[int, ...]:
        """Return the values of a field: ``*``, values, ranges, steps, and lists of these.

        Returns:
            The distinct values in ascending order.

        Raises:
            ExpressionSyntaxError: the field is written in another way.
        """
        selected: set[int] = set()
        for part in word.split(","):
            selected.update(self._part(part))
        return tuple(sorted(selected))

    def value(self, word: Word) -> int:
        """Return the value of a number or a name.

        Raises:
            ExpressionSyntaxError: it is neither, or it is out of bounds.
        """
        named = self.names.get(word.source.upper())
        if named is not None:
            return named
        if not (word.source.isascii() and word.source.isdigit()):
            raise word.error(
                f"{self.name}: `{word.source}` is not a value of this field; write {self.example}"
            )
        # Python refuses to convert numbers of thousands of digits; here the length alone is wrong.
        number = int(word.source[:9])
        if not self.low <= number <= self.high or len(word.source) > 9:
            raise word.error(f"{self.name}: {word.source[:9]} is out of bounds; write {self.example}")
        return number

    @property
    def example(self) -> str:
        """The allowed values, as the end of a sentence."""
        names = list(self.names)
        return f"{self.low} to {self.high}" + (f", or {names[0]} to {names[-1]}" if names else "")

    def _part(self, word: Word) -> range:
        base, slash, _ = word.source.partition("/")
        if not slash:
            return self._range(word, 1)
        if not self.steps:
            raise word.error(f"{self.name}: `/` is not allowed in this field; list the values: MON,WED,FRI")
        parts = word.split("/")
        if len(parts) != 2:
            raise word.error(f"{self.name}: more than one `/`; write start/step, such as 0/15")
        step = parts[1]
        span = self.high - self.low + 1
        if not (step.source.isascii() and step.source.isdigit() and 0 < int(step.source[:9]) <= span):
            raise step.error(f"{self.name}: the step after `/` must be a number from 1 to {span}")
        if base == "":
            raise word.error(f"{self.name}: there is nothing before `/`; write */{step.source}")
        return self._range(parts[0], int(step.source), open_end=True)

    def _range(self, word: Word, step: int, *, open_end: bool = False) -> range:
        if word.source == "*":
            return range(self.low, self.high + 1, step)
        parts = word.split("-")
        if len(parts) > 2:
            raise word.error(f"{self.name}: more than one `-`; write first-last")
        first = self.value(parts[0])
        if len(parts) == 1:
            return range(first, self.high + 1 if open_end else first + 1, step)
        last = self.value(parts[1])
        if last < first:
            raise word.error(
                f"{self.name}: {word.source} ends before it begins; write two ranges, "
                f"{first}-{self.high},{self.low}-{last}"
            )
        return range(first, last + 1, step)


MINUTES: Final = Field("minutes", 0, 59)
HOURS: Final = Field("hours", 0, 23)
MONTH_DAYS: Final = Field("day-of-month", 1, 31)
MONTHS: Final = Field("month", 1, 12, {name: 1 + index for index, name in enumerate(MONTH_NAMES)})
WEEKDAYS: Final = Field(
    "day-of-week", 1, 7, {name: 1 + index for index, name in enumerate(WEEKDAY_NAMES)}, steps=False
)
"""AWS counts from Sunday = 1."""
UNIX_WEEKDAYS: Final = Field(
    "day-of-week", 0, 7, {name: index for index, name in enumerate(WEEKDAY_NAMES)}, steps=True
)
"""Cron counts from Sunday = 0; 7 is Sunday too."""
YEARS: Final = Field("year", 1970, 2199)
