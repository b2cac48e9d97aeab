"""Finding flow files below folders, with a stamp that shows whether a file has changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Protocol

from airflow_allma.flow.diagnostics import Problem, Severity, quoted

__all__ = ["FoundFile", "FoundFiles", "IgnoreFiles", "Stamp", "find_files", "found_file"]

IGNORE_FILE = ".airflowignore"
SUFFIX = ".json"

_SETTLING_NANOSECONDS = 2_000_000_000
"""File times have a resolution of up to two seconds: a file that changed later can change again unseen."""


class Stamp(NamedTuple):
    """What distinguishes one state of a file from another without reading it."""

    modified: int
    """Nanoseconds."""
    changed: int
    """Nanoseconds; advances even if a tool sets ``modified`` back, as tools that copy files do."""
    size: int
    inode: int

    def is_settled(self, now: int) -> bool:
        """Return whether any later change will change the stamp.

        Args:
            now: nanoseconds since 1970, read before the file is.
        """
        return max(self.modified, self.changed) < now - _SETTLING_NANOSECONDS


class FoundFile(NamedTuple):
    """A file that may contain flows."""

    path: str
    """Starts with the folder's path, as the caller passed it."""
    stamp: Stamp | None
    """None if the file does not exist or cannot be read, such as the target of a broken link."""


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What is below a folder.

    Attributes:
        files: in a stable order.
        problems: folders that cannot be read, links to folders that have already been searched.
    """

    files: tuple[FoundFile, ...]
    problems: tuple[Problem, ...]


RefusedPattern = Callable[[int, str, str], None]
"""Takes the line of a pattern that cannot be read, the pattern, and the reason."""


class IgnoreFiles(Protocol):
    """Reads ``.airflowignore`` files and decides what a rule is."""

    def rules(self, file: FilePath, refused: RefusedPattern) -> Sequence[Any]:
        """Return the rules of one file; report each pattern that cannot be read, and leave it out."""

    def ignores(self, path: FilePath, rules: Sequence[Any]) -> bool:
        """Return whether a file or folder is ignored, by the rules from the outermost folder inwards."""


def find_files(
    folder: FilePath | str, ignoring: IgnoreFiles | None = None, above: FilePath | None = None
) -> FoundFiles:
    """Find the files below a folder that may contain flows or prompts.

    Hidden files and folders are skipped. Links to folders are followed, but no folder is searched twice.

    Args:
        folder: where to search.
        ignoring: reads ``.airflowignore`` files; None: they are not read.
        above: a folder around ``folder`` whose ``.airflowignore`` counts too, and those in between.
    """
    return _Search(ignoring).run(FilePath(folder), above)


def found_file(path: FilePath | str) -> FoundFile:
    """Return a file that is named, with its stamp."""
    # This runs for a thousand files whenever a task starts: it makes no avoidable call.
    try:
        status = os.stat(path)  # noqa: PTH116 - takes any string; ValueError if it cannot be a path
    except (OSError, ValueError):
        return FoundFile(str(path), None)
    if not stat.S_ISREG(status.st_mode):
        # Pipes and the like are refused when they are read, and have no state.
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
            waiting.extend(reversed(self.search(where, known)))

    def search(self, folder: str, rules: tuple[Any, ...]) -> list[tuple[str, tuple[Any, ...]]]:
        """Add the files of one folder; return the folders in it, with the rules for what is below."""
        try:
            status = os.stat(folder)  # noqa: PTH116 - without making a path of each folder
            first = self.entered.setdefault((status.st_dev, status.st_ino), folder)
            if first != folder:
                self.report(
                    folder,
                    f"this is the same folder as {first}, which has already been searched; remove the link",
                    Severity.WARNING,
                )
                return []
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            self.report(
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
        assert self.ignoring is not None  # noqa: S101 - both callers check it

        def refused(line: int, pattern: str, reason: str) -> None:
            message = f"{quoted(pattern)} is not a pattern: {reason}; it is ignored, so fix or remove it"
            self.problems.append(Problem(str(file), line, 1, "$", message))

        try:
            return self.ignoring.rules(file, refused)
        except (OSError, UnicodeDecodeError) as error:
            self.report(
                str(file), f"these patterns cannot be read: {error}; they are ignored", Severity.ERROR
            )
            return ()

    def report(self, file: str, message: str, severity: Severity) -> None:
        self.problems.append(Problem(file, 0, 0, "$", message, severity))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself is neither; the file is reported when it is loaded, and cannot be read.
        return False


def _between(above: FilePath, folder: FilePath) -> list[FilePath]:
    """Return the folders from ``above`` down to the parent of ``folder``; none if it is elsewhere."""
    if above == folder or not folder.is_relative_to(above):
        return []
    return [parent for parent in reversed(folder.parents) if parent.is_relative_to(above)]
