"""All flows of some folders: the one version of each that runs, and what is wrong between files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from airflow_allma.flow.diagnostics import Problem, Severity, quoted
from airflow_allma.flow.discovery import FoundFiles
from airflow_allma.flow.file_cache import FileCache
from airflow_allma.flow.files import FlowSource, LoadedFile

__all__ = ["LoadedFolder", "Selection", "load_found_files", "select_flows"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which flows run.

    Attributes:
        flows: one version of each flow, ordered by id.
        problems: the same version in two places (errors), flows without a published version (warnings).
    """

    flows: tuple[FlowSource, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class LoadedFolder:
    """All files of some folders.

    Attributes:
        files: every file that was read, in the order of their paths.
        flows: one version of each valid flow, ordered by id.
        problems: all problems, of the files and between them.
    """

    files: tuple[LoadedFile, ...]
    flows: tuple[FlowSource, ...]
    problems: tuple[Problem, ...]


def load_found_files(found: Iterable[FoundFiles], cache: FileCache) -> LoadedFolder:
    """Read all files that were found. A broken file does not affect other files.

    Args:
        found: the files of each folder.
        cache: reads them.
    """
    folders = tuple(found)
    files = tuple(cache.load(file) for folder in folders for file in folder.files)
    selection = select_flows(source for loaded in files for source in loaded.flows)
    running = {source.flow.id: source for source in selection.flows}
    problems = (
        *(problem for folder in folders for problem in folder.problems),
        *(problem for loaded in files for problem in (*loaded.problems, *_replaced(loaded, running))),
        *selection.problems,
    )
    return LoadedFolder(files, selection.flows, problems)


def select_flows(sources: Iterable[FlowSource]) -> Selection:
    """Select the published version with the highest number of each flow.

    When the same version of a flow is defined in two places, the first in the order of the files' paths is
    kept.

    Args:
        sources: all valid flows of all files.
    """
    ordered = sorted(sources, key=lambda source: (source.flow.id, source.file, source.path_key))
    selected: list[FlowSource] = []
    problems: list[Problem] = []
    for flow_id, group in groupby(ordered, key=lambda source: source.flow.id):
        versions: dict[int, FlowSource] = {}
        for source in group:
            first = versions.setdefault(source.flow.version, source)
            if first is not source:
                problems.append(
                    source.problem(
                        f"version {source.flow.version} of flow {quoted(flow_id)} is already defined in "
                        f"{first.file}:{first.line}, which is used; "
                        "raise this `version`, change this `id`, or remove one of the two"
                    )
                )
        published = [version for version, source in versions.items() if source.flow.is_published]
        if published:
            selected.append(versions[max(published)])
        else:
            last = versions[max(versions)]
            problems.append(
                last.problem(
                    f"no version of flow {quoted(flow_id)} is published, so it does not run; "
                    "set `isPublished` to true",
                    Severity.WARNING,
                )
            )
    return Selection(tuple(selected), tuple(problems))


def _replaced(loaded: LoadedFile, running: Mapping[str, FlowSource]) -> Iterator[Problem]:
    """Yield a warning for each broken flow of a file that still runs, from elsewhere, at the first error."""
    line, column = next(
        ((problem.line, problem.column) for problem in loaded.problems if problem.is_error), (0, 0)
    )
    for flow_id in loaded.broken_flow_ids:
        if source := running.get(flow_id):
            yield Problem(
                loaded.file,
                line,
                column,
                "$",
                f"until this file is fixed, version {source.flow.version} of flow {quoted(flow_id)} runs, "
                f"from {source.file}:{source.line}",
                Severity.WARNING,
            )
