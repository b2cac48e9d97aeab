"""What can be wrong with a flow file, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Diagnostic", "Path", "Problem", "Severity", "json_path", "quoted"]

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a JSON document to a value."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST_QUOTE = 60


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The flow does not run."""
    WARNING = "warning"
    """The flow runs, but probably not as it was meant."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something wrong at a place in a JSON value, before it is known where in which file that is.

    Attributes:
        path: where; may go deeper than the document does (a missing field).
        message: what is wrong and how to mend it.
        severity: error or warning.
        at_key: it is the key that is wrong, not its value.
    """

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    at_key: bool = False

    def below(self, *prefix: str | int) -> Diagnostic:
        """The same, seen from further up."""
        return Diagnostic((*prefix, *self.path), self.message, self.severity, self.at_key)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a place in a file.

    Attributes:
        file: the file's path as it was given.
        line: counted from 1; 0 when there is no text to point into.
        column: counted from 1 in characters; 0 likewise.
        path: JSON path, ``$.steps.a.onError``.
        message: what is wrong and how to mend it.
        severity: error or warning.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        """Whether it keeps the flow from running."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.severity}: {self.path}: {self.message}"


def json_path(path: Path) -> str:
    """The path as people write it: ``$.steps['my step'].transitions[0]``."""
    parts = ["$"]
    for segment in path:
        if isinstance(segment, int):
            parts.append(f"[{segment}]")
        elif _PLAIN_KEY.fullmatch(segment):
            parts.append(f".{segment}")
        else:
            parts.append(f"[{_escaped(segment)}]")
    return "".join(parts)


def quoted(text: str) -> str:
    """A text from a flow as a message may show it: in back quotes, on one line, not too long."""
    shown = _escaped(text)[1:-1]
    return f"`{shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 3] + '...'}`"


def _escaped(text: str) -> str:
    # repr chooses between ' and "; here it is always ' as in JSONPath.
    body = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return "'" + body.replace("'", "\\'") + "'"
