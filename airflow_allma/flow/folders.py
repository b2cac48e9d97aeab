"""All flows of some folders: the one version of each that runs, and what is wrong between files.

The files of one load are one configuration: all are read first, then the flows of each are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from airflow_allma.flow.artifacts import Artifact, ArtifactKind
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.definitions import StepDefinitions
from airflow_allma.flow.deploy_variables import NO_DEPLOY_VARIABLES, DeployVariables
from airflow_allma.flow.diagnostics import Diagnostic, Problem, Severity, json_path, quoted
from airflow_allma.flow.discovery import FoundFile, FoundFiles
from airflow_allma.flow.documents import MAX_PROBLEMS
from airflow_allma.flow.file_cache import FileCache
from airflow_allma.flow.file_contents import FileContents
from airflow_allma.flow.files import FlowSource, LoadedFile
from airflow_allma.flow.flow_cycles import check_flow_cycles
from airflow_allma.flow.start_conflicts import without_start_conflicts

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


def load_found_files(
    found: Iterable[FoundFiles],
    cache: FileCache,
    *,
    around: Iterable[FoundFile] = (),
    deploy: DeployVariables = NO_DEPLOY_VARIABLES,
    is_complete: bool = True,
) -> LoadedFolder:
    """Read all files that were found. A broken file affects only the flows that use what it defines.

    Args:
        found: the files of each folder.
        cache: reads and checks them.
        around: further files that can define what these use; their own flows are not checked.
        deploy: the values of placeholders in flow variables.
        is_complete: whether these are all files, so that an id that none of them defines is an error.
    """
    folders = tuple(found)
    contents = tuple(cache.read(file) for folder in folders for file in folder.files)
    catalog = Catalog(contents, map(cache.read, around), deploy=deploy, is_complete=is_complete)
    definitions = StepDefinitions(catalog)
    files = tuple(cache.check(one, catalog, definitions) for one in contents)
    selection = select_flows(source for loaded in files for source in loaded.flows)
    flows, conflicts = without_start_conflicts(selection.flows, catalog.positions)
    running = {source.flow.id: source for source in flows}
    of_artifacts = _problems_of_artifacts(catalog, definitions, files)
    names = {loaded.file for loaded in files}
    problems = (
        *(problem for folder in folders for problem in folder.problems),
        *(
            problem
            for loaded in files
            for problem in (
                *_ordered(loaded.problems, of_artifacts.get(loaded.file, ())),
                *_replaced(loaded, running),
            )
        ),
        *(problem for file, others in of_artifacts.items() if file not in names for problem in others),
        *selection.problems,
        *conflicts,
        *_cycles(contents, files, selection, catalog),
    )
    return LoadedFolder(files, flows, problems)


def _cycles(
    contents: Iterable[FileContents], files: Iterable[LoadedFile], selection: Selection, catalog: Catalog
) -> Iterator[Problem]:
    """Yield warnings about flows that run each other without end, if all files are known."""
    calling = {one.file for one in contents if any(kind is ArtifactKind.FLOW for kind, _ in one.needs)}
    if calling and catalog.is_complete:
        sources = (source for loaded in files if loaded.file in calling for source in loaded.flows)
        yield from check_flow_cycles(sources, selection.flows, catalog.positions)


def _problems_of_artifacts(
    catalog: Catalog, definitions: StepDefinitions, files: Iterable[LoadedFile]
) -> dict[str, list[Problem]]:
    """Return what is wrong in artifacts, by file: between them, and what flows of the files inherit."""
    names = set()
    users: dict[tuple[Artifact, Diagnostic], list[str]] = {}
    for loaded in files:
        names.add(loaded.file)
        for inherited in loaded.inherited:
            users.setdefault((inherited.artifact, inherited.diagnostic), []).append(inherited.user)
    found: list[tuple[Artifact, Diagnostic]] = [
        (problem.artifact, problem.diagnostic)
        for problem in (*catalog.problems, *definitions.problems)
        if problem.artifact.file in names
    ]
    problems: dict[str, list[Problem]] = {}
    ordered = sorted((*found, *users), key=lambda one: one[1].severity is not Severity.ERROR)
    for artifact, diagnostic in ordered:
        if len(problems.setdefault(artifact.file, [])) >= MAX_PROBLEMS:
            # As for the problems of a file itself: fix these first.
            continue
        path = (*artifact.path, *diagnostic.path)
        line, column = catalog.positions.find(artifact.file, path, at_key=diagnostic.at_key)
        message = diagnostic.message + _used_at(users.get((artifact, diagnostic), ()))
        problem = Problem(artifact.file, line, column, json_path(path), message, diagnostic.severity)
        problems[artifact.file].append(problem)
    return problems


def _used_at(users: Sequence[str]) -> str:
    if not users:
        return ""
    more = f" and {len(users) - 1} more" if len(users) > 1 else ""
    return f" (inherited at {users[0]}{more})"


def _ordered(problems: tuple[Problem, ...], others: Iterable[Problem]) -> Iterable[Problem]:
    merged = (*problems, *others)
    return sorted(merged, key=lambda problem: (problem.line, problem.column)) if others else problems


def select_flows(sources: Iterable[FlowSource]) -> Selection:
    """Select the published version with the highest number of each flow.

    When the same version of a flow is defined in two places, the first in the order of the files' paths is
    kept. A flow whose agents are all disabled is treated as if it were not published.

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
        if published and not versions[max(published)].disabled_by:
            selected.append(versions[max(published)])
        elif published:
            newest = versions[max(published)]
            problems.append(
                newest.problem(
                    f"flow {quoted(flow_id)} does not run, as all of its agents are disabled: "
                    f"{', '.join(newest.disabled_by)}; set `enabled` to true, or remove the flow from "
                    "`flowIds`",
                    Severity.WARNING,
                )
            )
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
