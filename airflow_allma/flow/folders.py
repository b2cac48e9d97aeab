"""All flows of a folder: the one version of each that runs, and what is wrong between files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path as FilePath

from airflow_allma.flow.diagnostics import Problem, Severity, quoted
from airflow_allma.flow.discovery import find_files
from airflow_allma.flow.expression_fields import ExpressionChecks
from airflow_allma.flow.files import FlowSource, LoadedFile, load_file
from airflow_allma.flow.validation import SupportCheck

__all__ = ["LoadedFolder", "Selection", "join_files", "load_folder", "select_flows"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which flows run.

    Attributes:
        flows: one version of each flow, ordered by id.
        problems: the same version in two places (errors), flows of which no version is published (warnings).
    """

    flows: tuple[FlowSource, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class LoadedFolder:
    """All files of a folder.

    Attributes:
        files: every file that was looked at, in the order of their paths.
        flows: one version of each valid flow, ordered by id.
        problems: all problems, of the files and between them.
    """

    files: tuple[LoadedFile, ...]
    flows: tuple[FlowSource, ...]
    problems: tuple[Problem, ...]


def select_flows(sources: Iterable[FlowSource]) -> Selection:
    """Of several versions of one flow, the published one with the highest version.

    When the same version of a flow stands in two places, the first in the order of the files' paths is kept.

    Args:
        sources: all valid flows of all files.
    """
    ordered = sorted(sources, key=lambda source: (source.flow.id, source.file, source.path_key))
    chosen: list[FlowSource] = []
    problems: list[Problem] = []
    for flow_id, group in groupby(ordered, key=lambda source: source.flow.id):
        versions: dict[int, FlowSource] = {}
        for source in group:
            first = versions.setdefault(source.flow.version, source)
            if first is not source:
                problems.append(
                    source.problem(
                        f"version {source.flow.version} of flow {quoted(flow_id)} stands in "
                        f"{first.file}:{first.line} already, which is used; "
                        "raise this `version`, change this `id`, or remove one of the two"
                    )
                )
        published = [version for version, source in versions.items() if source.flow.is_published]
        if published:
            chosen.append(versions[max(published)])
        else:
            last = versions[max(versions)]
            problems.append(
                last.problem(
                    f"no version of flow {quoted(flow_id)} is published, so it does not run; "
                    "set `isPublished` to true",
                    Severity.WARNING,
                )
            )
    return Selection(tuple(chosen), tuple(problems))


def load_folder(
    folder: FilePath | str, checks: ExpressionChecks | None = None, supported: SupportCheck | None = None
) -> LoadedFolder:
    """Read every flow file below a folder. A file that is broken leaves the others alone.

    Args:
        folder: the folder; problems show paths that begin with it.
        checks: can expressions be read? None: they are not looked at.
        supported: can a step run? None: all can.
    """
    found = find_files(folder)
    return join_files((load_file(file.path, checks, supported) for file in found.files), found.problems)


def join_files(files: Iterable[LoadedFile], problems: Iterable[Problem] = ()) -> LoadedFolder:
    """What files give together.

    Args:
        files: the files, in the order of their paths.
        problems: what was wrong when they were looked for.
    """
    known = tuple(files)
    selection = select_flows(source for loaded in known for source in loaded.flows)
    running = {source.flow.id: source for source in selection.flows}
    own = (problem for loaded in known for problem in (*loaded.problems, *_replaced(loaded, running)))
    return LoadedFolder(known, selection.flows, (*problems, *own, *selection.problems))


def _replaced(loaded: LoadedFile, running: Mapping[str, FlowSource]) -> Iterator[Problem]:
    """A flow whose file is broken runs all the same if another file has a version of it."""
    for flow_id in loaded.broken_flow_ids:
        if source := running.get(flow_id):
            yield Problem(
                loaded.file,
                0,
                0,
                "$",
                f"until this file is mended, version {source.flow.version} of flow {quoted(flow_id)} runs, "
                f"from {source.file}:{source.line}",
                Severity.WARNING,
            )
