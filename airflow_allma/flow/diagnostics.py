"""Errors and warnings about a flow file, and their positions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from airflow_allma.common.printable import printable, shortened

__all__ = ["Diagnostic", "Path", "Problem", "Severity", "json_path", "quoted"]

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a JSON document to a value."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MAX_QUOTED_LENGTH = 60

# Problems are shown in logs, on terminals and as import errors: a key can have millions of characters.
_MAX_KEY_LENGTH = 80
_MAX_PATH_LENGTH = 400
_MAX_MESSAGE_LENGTH = 2000
_MAX_FILE_LENGTH = 1000


class Severity(StrEnum):
    """Whether a problem keeps the flow from running."""

    ERROR = "error"
    """The flow does not run."""
    WARNING = "warning"
    """The flow runs, but probably not as its author intended."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something wrong with a JSON value, before its position in a file is known.

    Attributes:
        path: where it is; can go deeper than the document does (a missing field).
        message: what is wrong and how to fix it.
        severity: error or warning.
        at_key: whether the key is wrong, not its value.
    """

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    at_key: bool = False

    def below(self, *prefix: str | int) -> Diagnostic:
        """Return the same diagnostic with ``prefix`` before its path."""
        return Diagnostic((*prefix, *self.path), self.message, self.severity, self.at_key)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a position in a file.

    Path and message are printable and not too long, whatever the file contains.

    Attributes:
        file: the file's path as the caller passed it.
        line: counted from 1; 0 if the problem has no position.
        column: counted from 1 in characters; 0 likewise.
        path: JSON path, ``$.steps.a.onError``.
        message: what is wrong and how to fix it.
        severity: error or warning.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: Severity = Severity.ERROR

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", shortened(printable(self.path), _MAX_PATH_LENGTH))
        message = shortened(printable(self.message, "\n"), _MAX_MESSAGE_LENGTH)
        object.__setattr__(self, "message", message)

    @property
    def is_error(self) -> bool:
        """Whether the problem keeps the flow from running."""
        return self.severity is Severity.ERROR

    @property
    def shown_file(self) -> str:
        """The file's path, printable and not too long."""
        # A file's name can have any characters; bytes that are not UTF-8 are surrogates in it.
        return shortened(printable(self.file), _MAX_FILE_LENGTH)

    def __str__(self) -> str:
        where = f"{self.shown_file}:{self.line}:{self.column}" if self.line else self.shown_file
        return f"{where}: {self.severity}: {self.path}: {self.message}"


def json_path(path: Path) -> str:
    """Return the path as people write it: ``$.steps['my step'].transitions[0]``. Long keys are shortened."""
    return "$" + "".join(map(_segment, path))


def _segment(segment: str | int) -> str:
    if isinstance(segment, int):
        return f"[{segment}]"
    if len(segment) <= _MAX_KEY_LENGTH:
        return f".{segment}" if _PLAIN_KEY.fullmatch(segment) else f"[{_escaped(segment)}]"
    return f"[{_escaped(shortened(segment, _MAX_KEY_LENGTH))}]"


def quoted(value: str) -> str:
    """Return a string from a flow as messages show it: in backquotes, on one line, not too long."""
    shown = _escaped(value)[1:-1]
    return f"`{shown if len(shown) <= _MAX_QUOTED_LENGTH else shown[: _MAX_QUOTED_LENGTH - 3] + '...'}`"


def _escaped(value: str) -> str:
    # repr chooses between ' and "; here it is always ' as in JSONPath.
    body = "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
    return "'" + body.replace("'", "\\'") + "'"
