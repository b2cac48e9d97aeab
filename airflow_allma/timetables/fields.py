"""One field of a cron expression: which values its text stands for."""

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
    "words_of",
]

MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class Word:
    """A part of an expression, and where it stands.

    Attributes:
        text: the part.
        whole: the expression.
        start: 0-based index of the part in the expression.
    """

    text: str
    whole: str
    start: int

    def error(self, reason: str) -> ExpressionSyntaxError:
        """What to raise for this part."""
        return ExpressionSyntaxError(reason, self.whole, self.start)

    def split(self, separator: str) -> list[Word]:
        """The parts between separators, each with its place."""
        parts, start = [], self.start
        for text in self.text.split(separator):
            parts.append(Word(text, self.whole, start))
            start += len(text) + len(separator)
        return parts


def words_of(body: Word) -> list[Word]:
    """What stands between white space, each with its place."""
    found, position = [], 0
    for text in body.text.split():
        position = body.text.index(text, position)
        found.append(Word(text, body.whole, body.start + position))
        position += len(text)
    return found


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of a cron expression may say.

    Attributes:
        name: what errors call it.
        low: the smallest value.
        high: the largest value.
        names: names of values, in capitals.
        steps: whether ``/`` may stand in it.
    """

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    steps: bool = True

    def values(self, word: Word) -> tuple[int, ...]:
        """The values that a text stands for: ``*``, values, ranges, steps, and lists of these.

        Returns:
            The values, each once, from the smallest to the largest.

        Raises:
            ExpressionSyntaxError: the text says something else.
        """
        found: set[int] = set()
        for part in word.split(","):
            found.update(self._part(part))
        return tuple(sorted(found))

    def value(self, word: Word) -> int:
        """The value that a number or a name stands for.

        Raises:
            ExpressionSyntaxError: it is neither, or not within the bounds.
        """
        named = self.names.get(word.text.upper())
        if named is not None:
            return named
        if not (word.text.isascii() and word.text.isdigit()):
            raise word.error(f"{self.name}: `{word.text}` is no value of this field; write {self.example}")
        # A number of a thousand digits is wrong by its length already.
        number = int(word.text[:9])
        if not self.low <= number <= self.high or len(word.text) > 9:
            raise word.error(f"{self.name}: {word.text[:9]} is out of bounds; write {self.example}")
        return number

    @property
    def example(self) -> str:
        """What may be written, as the end of a sentence."""
        names = list(self.names)
        return f"{self.low} to {self.high}" + (f", or {names[0]} to {names[-1]}" if names else "")

    def _part(self, word: Word) -> range:
        base, slash, _ = word.text.partition("/")
        if not slash:
            return self._range(word, 1)
        if not self.steps:
            raise word.error(f"{self.name}: `/` cannot stand in this field; list the values: MON,WED,FRI")
        parts = word.split("/")
        if len(parts) != 2:
            raise word.error(f"{self.name}: more than one `/`; write start/step, such as 0/15")
        step = parts[1]
        span = self.high - self.low + 1
        if not (step.text.isascii() and step.text.isdigit() and 0 < int(step.text[:9]) <= span):
            raise step.error(f"{self.name}: the step behind `/` is a number from 1 to {span}")
        if base == "":
            raise word.error(f"{self.name}: nothing stands before `/`; write */{step.text}")
        return self._range(parts[0], int(step.text), open_end=True)

    def _range(self, word: Word, step: int, *, open_end: bool = False) -> range:
        if word.text == "*":
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
                f"{self.name}: {word.text} ends before it begins; write two ranges, "
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
"""As AWS counts: Sunday is 1."""
UNIX_WEEKDAYS: Final = Field(
    "day-of-week", 0, 7, {name: index for index, name in enumerate(WEEKDAY_NAMES)}, steps=True
)
"""As cron counts: Sunday is 0, and 7 too."""
YEARS: Final = Field("year", 1970, 2199)
