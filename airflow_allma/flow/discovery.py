"""Diagnostic flow files below folders, with what tells whether a file has changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Protocol

from airflow_allma.flow.diagnostics import Problem, Severity

__all__ = ["FoundFile", "FoundFiles", "IgnoreFiles", "Stamp", "find_files", "found_file"]

IGNORE_FILE = ".airflowignore"
SUFFIX = ".json"

_SETTLING_NANOSECONDS = 2_000_000_000
"""Times of files have steps, of up to two seconds: what changed that lately can change again unseen."""


class Stamp(NamedTuple):
    """What tells one state of a file from another without reading it."""

    modified: int
    """Nanoseconds."""
    changed: int
    """Nanoseconds; goes on also when a tool sets ``modified`` back, as those that copy files do."""
    size: int
    inode: int

    def is_settled(self, now: int) -> bool:
        """Whether any later change shows.

        Args:
            now: nanoseconds since 1970, read before the file is.
        """
        return max(self.modified, self.changed) < now - _SETTLING_NANOSECONDS


class FoundFile(NamedTuple):
    """A file that may hold flows."""

    path: str
    """Begins with the folder's, as it was given."""
    stamp: Stamp | None
    """None when the file cannot be looked at, as behind a link that leads nowhere."""


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What lies below a folder.

    Attributes:
        files: in a stable order.
        problems: folders that cannot be read, links that lead back.
    """

    files: tuple[FoundFile, ...]
    problems: tuple[Problem, ...]


class IgnoreFiles(Protocol):
    """Reads ``.airflowignore`` files; what a rule is, is its own affair."""

    def rules(self, file: FilePath) -> Sequence[Any]:
        """The rules of one file."""

    def ignores(self, path: FilePath, rules: Sequence[Any]) -> bool:
        """Whether a file or folder is to be left out, by the rules from the outermost folder inwards."""


def find_files(
    folder: FilePath | str, ignoring: IgnoreFiles | None = None, above: FilePath | None = None
) -> FoundFiles:
    """The files below a folder that may hold flows or prompts.

    Hidden files and folders are left out. Links to folders are followed, but no folder is entered twice.

    Args:
        folder: where to look.
        ignoring: reads ``.airflowignore`` files; None: they have no meaning.
        above: a folder that holds ``folder``, whose ``.airflowignore`` counts, and those in between.
    """
    return _Search(ignoring).run(FilePath(folder), above)


def found_file(path: FilePath | str) -> FoundFile:
    """A file that was named, not found."""
    # Done for a thousand files whenever a task starts: no call that can be spared.
    try:
        status = os.stat(path)  # noqa: PTH116 - takes any text; `ValueError` for what no path can be
    except (OSError, ValueError):
        return FoundFile(str(path), None)
    if not stat.S_ISREG(status.st_mode):
        # Pipes and the like are refused by whoever opens them, and have no state.
        return FoundFile(str(path), None)
    return FoundFile(str(path), Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))


@dataclass(slots=True)
class _Search:
    ignoring: IgnoreFiles | None
    files: list[FoundFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    entered: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self, folder: FilePath, above: FilePath | None) -> FoundFiles:
        rules: tuple[Any, ...] = ()
        if self.ignoring is not None and above is not None:
            for outer in _between(above, folder):
                if (file := outer / IGNORE_FILE).is_file():
                    rules = (*rules, *self._rules(file))
        self.enter(str(folder), rules)
        return FoundFiles(tuple(self.files), tuple(self.problems))

    def enter(self, folder: str, rules: tuple[Any, ...]) -> None:
        # No recursion: folders may be nested deeper than Python's stack.
        waiting = [(folder, rules)]
        while waiting:
            where, known = waiting.pop()
            waiting.extend(reversed(self.look(where, known)))

    def look(self, folder: str, rules: tuple[Any, ...]) -> list[tuple[str, tuple[Any, ...]]]:
        """Take the files of one folder; the folders in it, with the rules for what is below."""
        try:
            status = os.stat(folder)  # noqa: PTH116 - once for each folder, of text that is at hand
            first = self.entered.setdefault((status.st_dev, status.st_ino), folder)
            if first != folder:
                self.say(
                    folder,
                    f"this is the same folder as {first}, which is looked through already; remove the link",
                    Severity.WARNING,
                )
                return []
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.say(
                folder,
                f"this folder cannot be read: {error.strerror or error}; no flow below it is loaded",
                Severity.ERROR,
            )
            return []
        if self.ignoring is not None and any(entry.name == IGNORE_FILE for entry in entries):
            rules = (*rules, *self._rules(FilePath(folder, IGNORE_FILE)))
        folders = []
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            is_folder = _is_folder(entry)
            if not is_folder and not name.endswith(SUFFIX):
                continue
            path = entry.path
            if rules and self.ignoring is not None and self.ignoring.ignores(FilePath(path), rules):
                continue
            if is_folder:
                folders.append((path, rules))
            else:
                self.files.append(found_file(path))
        return folders

    def _rules(self, file: FilePath) -> Sequence[Any]:
        assert self.ignoring is not None  # noqa: S101 - both callers have asked
        try:
            return self.ignoring.rules(file)
        except (OSError, UnicodeDecodeError) as error:
            self.say(
                str(file), f"these patterns cannot be read: {error}; nothing is left out", Severity.ERROR
            )
            return ()

    def say(self, file: str, message: str, severity: Severity) -> None:
        self.problems.append(Problem(file, 0, 0, "$", message, severity))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself is neither; the file that cannot be read is told of when it is loaded.
        return False


def _between(above: FilePath, folder: FilePath) -> list[FilePath]:
    """The folders from ``above`` down to the one that holds ``folder``; none if it lies elsewhere."""
    if above == folder or not folder.is_relative_to(above):
        return []
    return [one for one in reversed(folder.parents) if one.is_relative_to(above)]
