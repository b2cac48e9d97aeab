"""Loading flow files with everything checked that this engine knows: expressions, step types, modules."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from airflow_allma.engine.steps import unsupported_reason
from airflow_allma.expressions import compile_condition, compile_path, compile_target, compile_template
from airflow_allma.flow import (
    FoundFile,
    FoundFiles,
    LoadedFile,
    LoadedFolder,
    ScheduleCheck,
    Stamp,
    find_files,
    found_file,
    join_files,
    load_file,
)

__all__ = ["CHECKS", "FileMemory", "load_flow_file", "load_flow_files", "load_found_files"]

_MOST_REMEMBERED_BYTES: Final = 64 * 1024 * 1024


class _EngineChecks:
    """Reads each expression with what will run it."""

    def path(self, text: str) -> object:
        return compile_path(text)

    def condition(self, text: str) -> object:
        return compile_condition(text)

    def template(self, text: str) -> object:
        return compile_template(text)

    def target(self, text: str) -> object:
        return compile_target(text)


CHECKS: Final = _EngineChecks()
"""What this engine's expressions say about a text, for the loader of flow files."""


def load_flow_file(path: Path | str, schedule: ScheduleCheck | None = None) -> LoadedFile:
    """Read one file; all its problems come with it. See load_flow_files."""
    return load_file(Path(path), CHECKS, unsupported_reason, schedule=schedule)


def load_flow_files(paths: Iterable[Path | str], schedule: ScheduleCheck | None = None) -> LoadedFolder:
    """Read flow files, and those below folders; of several versions of a flow the one that runs is chosen.

    Args:
        paths: files and folders; a file that is named is read whatever its name.
        schedule: can a flow's schedule be read? None: it is not looked at.
    """
    return load_found_files(
        (
            find_files(path) if path.is_dir() else FoundFiles((found_file(path),), ())
            for path in map(Path, paths)
        ),
        schedule,
    )


def load_found_files(
    found: Iterable[FoundFiles], schedule: ScheduleCheck | None = None, memory: FileMemory | None = None
) -> LoadedFolder:
    """Read files that were found. See load_flow_files.

    Args:
        found: what was found in each place.
        schedule: can a flow's schedule be read? None: it is not looked at.
        memory: what was read already; None: nothing, read all.
    """
    places = tuple(found)
    memory = memory or FileMemory()
    return join_files(
        (memory.load(file, schedule) for place in places for file in place.files),
        (problem for place in places for problem in place.problems),
    )


@dataclass(slots=True)
class FileMemory:
    """Files that were read and have not changed since. Flows are never changed, so they can be shared."""

    _known: dict[str, tuple[Stamp, ScheduleCheck | None, LoadedFile]] = field(default_factory=dict)
    _bytes: int = 0

    def load(self, file: FoundFile, schedule: ScheduleCheck | None) -> LoadedFile:
        """What the file gives, read again only if it has changed."""
        stamp = file.stamp
        known = self._known.get(file.path)
        if known is not None and known[:2] == (stamp, schedule):
            return known[2]
        now = time.time_ns()
        loaded = load_flow_file(file.path, schedule)
        if stamp is not None and stamp.is_settled(now):
            self._bytes += stamp.size
            if self._bytes > _MOST_REMEMBERED_BYTES:
                self._known.clear()
                self._bytes = stamp.size
            self._known[file.path] = (stamp, schedule, loaded)
        return loaded
