"""A file as a JSON value whose parts can be located in the file."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path as FilePath
from typing import Any

import msgspec

from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, json_path
from airflow_allma.flow.json_scan import MAX_DEPTH, JsonScan, JsonSyntaxError, line_and_column, scan

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PROBLEMS",
    "MAX_TAGS",
    "Document",
    "UnreadableDocumentError",
    "read_document",
]

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Larger files are refused unread: flow files are thousands of bytes, exports a few hundred thousand.

Locating the errors of a file of this size takes seconds, and Airflow allows all files of a loader
thirty.
"""

MAX_TAGS = 20_000
"""Template tags of one file, ``{{...}}``. Each takes up to 0.1 ms to compile; text takes less."""

MAX_PROBLEMS = 100
"""Further problems are counted, not listed."""

# More digits than any float has. The decoder makes an integer of them, which nothing after it can hold.
_LONG_NUMBER = re.compile(r"(?<![0-9])[0-9]{309}")
_TAG = re.compile(r"(?:\{|\\u007[bB]){2}")
_BYTE_POSITION = re.compile(r"\(byte (\d+)\)")


class UnreadableDocumentError(Exception):
    """A file is not JSON; ``problems`` has the reasons. Never leaves this package."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Document:
    """The source of a JSON file and its value.

    Attributes:
        file: the file's path as problems show it.
        source: the file's text.
        value: the decoded value.
    """

    def __init__(self, file: str, source: str) -> None:
        """Decode the source.

        Raises:
            UnreadableDocumentError: it is not JSON, repeats a key, or is nested too deeply.
        """
        self.file = file
        self.source = source
        self._scan: JsonScan | None = None
        # Positions are mostly requested in the order of the file: lines are counted from the last one.
        self._counted = (0, 1)
        self.value: Any = self._decode()

    def position(self, path: Path, *, at_key: bool = False) -> tuple[int, int]:
        """Return line and column of the value (or its key) at a path, or of the nearest value above it."""
        return self._line_and_column(self._offset(path, at_key=at_key))

    def beginning(self) -> tuple[int, int]:
        """Return line and column of the outermost value, without a scan."""
        return line_and_column(self.source, len(self.source) - len(self.source.lstrip(" \t\n\r")))

    def locate(self, diagnostics: Iterable[Diagnostic]) -> tuple[Problem, ...]:
        """Return diagnostics as problems of this file, in the order of their positions, each once."""
        offsets = {
            diagnostic: self._offset(diagnostic.path, at_key=diagnostic.at_key) for diagnostic in diagnostics
        }
        ordered = sorted(offsets.items(), key=lambda item: item[1])
        # If there are too many, errors have priority: they are why the flow does not run.
        if len(ordered) > MAX_PROBLEMS:
            kept = sorted(ordered, key=lambda item: item[0].severity is not Severity.ERROR)[:MAX_PROBLEMS]
            shown = sorted(kept, key=lambda item: item[1])
        else:
            shown = ordered
        problems = [
            Problem(
                self.file,
                *self._line_and_column(offset),
                json_path(diagnostic.path),
                diagnostic.message,
                diagnostic.severity,
            )
            for diagnostic, offset in shown
        ]
        if len(shown) < len(ordered):
            listed = {diagnostic for diagnostic, _ in shown}
            first = next(offset for diagnostic, offset in ordered if diagnostic not in listed)
            problems.append(
                Problem(
                    self.file,
                    *self._line_and_column(first),
                    "$",
                    f"{len(ordered) - len(shown)} more problems; fix these first",
                    Severity.WARNING,
                )
            )
        return tuple(problems)

    def _offset(self, path: Path, *, at_key: bool = False) -> int:
        if self._scan is None:
            self._scan = scan(self.source)
        return self._scan.offset(path, at_key=at_key)

    def _line_and_column(self, offset: int) -> tuple[int, int]:
        counted, line = self._counted if self._counted[0] <= offset else (0, 1)
        line += self.source.count("\n", counted, offset)
        self._counted = (offset, line)
        return line, offset - self.source.rfind("\n", 0, offset)

    def _decode(self) -> Any:
        try:
            value = msgspec.json.decode(self.source)
            depth = _depth(value)
            repeats = _repeats_a_key(self.source) if depth <= MAX_DEPTH else False
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._explain(error)
            raise self._unreadable("this JSON cannot be decoded", 0) from error
        if repeats or depth > MAX_DEPTH or _LONG_NUMBER.search(self.source):
            self._explain(None)
        return value

    def _explain(self, error: Exception | None) -> None:
        try:
            self._scan = scan(self.source)
        except JsonSyntaxError as located:
            raise self._unreadable(located.reason, located.offset) from error
        if self._scan.repeated:
            raise UnreadableDocumentError(
                tuple(
                    Problem(
                        self.file,
                        *line_and_column(self.source, again),
                        json_path(path),
                        "this key is already in the same object (line "
                        f"{line_and_column(self.source, first)[0]}); remove one of the two",
                    )
                    for path, again, first in self._scan.repeated[:MAX_PROBLEMS]
                )
            )
        if error is not None:
            match = _BYTE_POSITION.search(str(error))
            before = self.source.encode()[: int(match[1])].decode(errors="ignore") if match else ""
            raise self._unreadable(f"this JSON cannot be decoded: {error}", len(before)) from error

    def _unreadable(self, reason: str, offset: int) -> UnreadableDocumentError:
        return UnreadableDocumentError(
            (Problem(self.file, *line_and_column(self.source, offset), "$", f"not JSON: {reason}"),)
        )


def read_document(path: FilePath, file: str) -> Document:
    """Read and decode one file.

    Args:
        path: the file.
        file: its path as problems show it.

    Raises:
        UnreadableDocumentError: the file cannot be read, is too large, not UTF-8 or not JSON.
    """

    def unreadable(message: str, line: int = 1, column: int = 1) -> UnreadableDocumentError:
        return UnreadableDocumentError((Problem(file, line, column, "$", message, Severity.ERROR),))

    try:
        # Opening a pipe would block.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise unreadable("not a regular file; remove it or rename it")
        # The file can grow before it is read, and some files do not know their size.
        data = b"" if status.st_size > MAX_FILE_BYTES else _read(path)
    except (OSError, ValueError) as error:
        raise unreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if max(len(data), status.st_size) > MAX_FILE_BYTES:
        raise unreadable(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; split it into several")
    try:
        # Some editors begin a file with a byte order mark; it has no meaning in UTF-8.
        source = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        line, column = line_and_column(before, len(before))
        raise unreadable("the file is not UTF-8 from here on; save it as UTF-8", line, column) from error
    surplus = _surplus_tag(source)
    if surplus is not None:
        raise unreadable(
            f"the file has more than {MAX_TAGS} template tags ({{{{...}}}}), the first one beyond the limit "
            "here; repeat with {{#each}}, or split the file",
            *line_and_column(source, surplus),
        )
    return Document(file, source)


def _surplus_tag(source: str) -> int | None:
    """Return where the first template tag beyond ``MAX_TAGS`` begins; None if there are not so many."""
    # Outside of strings, JSON has no two braces in a row.
    if source.count("{{") + source.count("\\u007") <= MAX_TAGS:
        return None
    match = next(islice(_TAG.finditer(source), MAX_TAGS, None), None)
    return None if match is None else match.start()


def _read(path: FilePath) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


class _RepeatedKeyError(Exception):
    pass


def _refuse_repeated_keys(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) != len(members):
        raise _RepeatedKeyError


_REPEATS = json.JSONDecoder(object_pairs_hook=_refuse_repeated_keys)


def _repeats_a_key(source: str) -> bool:
    """Return whether an object has a key twice; the fast decoder silently keeps the last one."""
    try:
        _REPEATS.decode(source)
    except _RepeatedKeyError:
        return True
    return False


def _depth(root: Any) -> int:
    """Return how deeply objects and lists are nested."""
    depth = 0
    level = [root]
    while level:
        containers = [value for value in level if isinstance(value, dict | list)]
        depth += 1 if containers else 0
        level = [
            value
            for container in containers
            for value in (container.values() if isinstance(container, dict) else container)
        ]
    return depth
