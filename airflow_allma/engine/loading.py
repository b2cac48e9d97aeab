"""Loading flow files with everything checked that this engine knows: expressions, step types, modules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from airflow_allma.engine.steps import unsupported_reason
from airflow_allma.expressions import compile_condition, compile_path, compile_target, compile_template
from airflow_allma.flow import (
    LoadedFile,
    LoadedFolder,
    ScheduleCheck,
    find_files,
    load_file,
    select_flows,
)

__all__ = ["CHECKS", "load_flow_file", "load_flow_files"]


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
    files: list[LoadedFile] = []
    for given in map(Path, paths):
        found = find_files(given) if given.is_dir() else (given,)
        files.extend(load_flow_file(path, schedule) for path in found)
    selection = select_flows(source for loaded in files for source in loaded.flows)
    own = (problem for loaded in files for problem in loaded.problems)
    return LoadedFolder(tuple(files), selection.flows, (*own, *selection.problems))
