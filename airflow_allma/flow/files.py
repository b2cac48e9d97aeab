"""The content of a flow file, checked together with what other files define for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

from airflow_allma.flow.agent_variables import disabled_agents, variable_origin, with_variables
from airflow_allma.flow.artifacts import Artifact, ArtifactKind, bundle_of, needs_of
from airflow_allma.flow.bundle import Bundle
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.definitions import Origin, StepDefinitions
from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.expression_budget import BoundedExpressions
from airflow_allma.flow.file_contents import FileContents, FileKind, read_file
from airflow_allma.flow.models import Flow
from airflow_allma.flow.validation import check_flow

__all__ = ["MAX_INHERITED_BYTES", "FlowSource", "InheritedProblem", "LoadedFile", "check_file", "load_file"]

MAX_INHERITED_BYTES: Final = 16 * 1024 * 1024
"""What the flows of one file inherit from definitions and agents, in bytes of JSON: all of it is checked."""

_NO_CHECKS: Final = FlowChecks()
_EMPTY_BUNDLE: Final = Bundle()
_INHERITS_TOO_MUCH: Final = (
    f"the flows of this file inherit more than {MAX_INHERITED_BYTES >> 20} MiB from step definitions and "
    "agents; make those smaller, use them in fewer steps, or split the file"
)


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A valid flow and its source.

    Attributes:
        flow: the flow, with what it inherits and the variables of its agents.
        file: path of its file, as the caller passed it.
        path: where in the file it is: ``()`` in a file of its own, ``("flows", 2)`` in an export.
        line: line of its first character, from 1.
        column: column likewise.
        definition: the JSON object as its file has it.
        disabled_by: where its agents are, if all of them are disabled; it does not run then.
    """

    flow: Flow
    file: str
    path: Path
    line: int
    column: int
    definition: dict[str, Any] = field(repr=False)
    disabled_by: tuple[str, ...] = ()

    @property
    def bundle(self) -> Bundle:
        """What it uses of what any file defines."""
        return self.flow.bundle

    @property
    def path_key(self) -> tuple[str, ...]:
        """The key that sorts the flows of one file in the order of the file."""
        return tuple(f"{segment:09d}" if isinstance(segment, int) else segment for segment in self.path)

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem with the flow as a whole."""
        return Problem(self.file, self.line, self.column, json_path(self.path), message, severity)


@dataclass(frozen=True, slots=True)
class InheritedProblem:
    """Something wrong in what a flow of another file inherits.

    Attributes:
        artifact: what the flow inherits from.
        diagnostic: what is wrong; its path begins at the artifact.
        user: where it is inherited, ``file:line:column``.
    """

    artifact: Artifact
    diagnostic: Diagnostic
    user: str


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What was read from one file.

    Attributes:
        file: its path, as the caller passed it.
        kind: what it contains.
        flows: its valid flows; of an export those without errors.
        problems: all errors and warnings, in the order of their positions.
        bundle: what it defines for flows.
        broken_flow_ids: ids of flows that have errors, where the id itself could be read.
        inherited: what is wrong in other files, as far as its flows inherit it.
    """

    file: str
    kind: FileKind
    flows: tuple[FlowSource, ...] = ()
    problems: tuple[Problem, ...] = ()
    bundle: Bundle = _EMPTY_BUNDLE
    broken_flow_ids: tuple[str, ...] = ()
    inherited: tuple[InheritedProblem, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether the file has errors; warnings do not count."""
        return any(problem.is_error for problem in self.problems)


def load_file(
    path: FilePath | str, checks: FlowChecks = _NO_CHECKS, *, file: str | None = None
) -> LoadedFile:
    """Read one file and check everything in it. Never raises for the file's content or for a missing file.

    Args:
        path: the file.
        checks: what is checked beyond the flow language.
        file: the path as problems show it; None: ``path``.
    """
    contents = read_file(path, checks, file=file)
    catalog = Catalog([contents])
    definitions = StepDefinitions(catalog)
    between = (
        problem.diagnostic.below(*problem.artifact.path)
        for problem in (*catalog.problems, *definitions.problems)
    )
    contents = replace(contents, diagnostics=(*contents.diagnostics, *between))
    return check_file(contents, catalog, definitions, checks)


def check_file(
    contents: FileContents, catalog: Catalog, definitions: StepDefinitions, checks: FlowChecks
) -> LoadedFile:
    """Check the flows of a file.

    Args:
        contents: the file.
        catalog: what all files define for each other.
        definitions: what steps can inherit.
        checks: what is checked beyond the flow language.
    """
    if contents.document is None:
        return LoadedFile(contents.file, contents.kind, problems=contents.problems)
    return _FileCheck(contents, catalog, definitions, checks).run()


class _FileCheck:
    def __init__(
        self, contents: FileContents, catalog: Catalog, definitions: StepDefinitions, checks: FlowChecks
    ) -> None:
        self.contents = contents
        self.catalog = catalog
        self.definitions = definitions
        self.checks = checks
        if checks.expressions is not None:
            self.checks = replace(checks, expressions=BoundedExpressions(checks.expressions))
        self.diagnostics: list[Diagnostic] = list(contents.diagnostics)
        self.broken: list[str] = []
        self.inherited: list[InheritedProblem] = []
        self.inherited_bytes = 0

    def run(self) -> LoadedFile:
        contents, document = self.contents, self.contents.document
        sources = [self.flow(path, flow) for path, flow in contents.flows]
        return LoadedFile(
            contents.file,
            contents.kind,
            tuple(source for source in sources if source is not None),
            document.locate(self.diagnostics) if self.diagnostics and document else (),
            bundle_of(contents.artifacts) if contents.artifacts else _EMPTY_BUNDLE,
            tuple(self.broken),
            tuple(self.inherited),
        )

    def flow(self, path: Path, flow: Any) -> FlowSource | None:
        if not isinstance(flow, dict):
            self.diagnostics.append(
                Diagnostic(path, "must be a flow, an object with `steps` and `startStepInstanceId`")
            )
            return None
        found: list[Diagnostic] = []
        try:
            if self.inherits_too_much(flow):
                found.append(Diagnostic((), _INHERITS_TOO_MUCH))
                self.locate(path, flow, found)
                self.mark_broken(flow)
                return None
            whole = with_variables(flow, self.catalog, found)
            checked = check_flow(whole, self.definitions, self.checks, catalog=self.catalog)
            found += checked.diagnostics
            self.locate(path, flow, found)
        except Exception as error:  # noqa: BLE001 - other files must load, and the problem is shown
            self.diagnostics.append(Diagnostic(path, _uncheckable(error)))
            self.mark_broken(flow)
            return None
        if checked.flow is None or any(diagnostic.severity is Severity.ERROR for diagnostic in found):
            self.mark_broken(flow)
            return None
        return self.source(path, flow, checked.flow)

    def inherits_too_much(self, flow: dict[str, Any]) -> bool:
        """Add what a flow inherits to the sum of the file; return whether it is too much."""
        if self.contents.needs:
            self.inherited_bytes += self.definitions.inherited_bytes(flow)
        if isinstance(flow.get("id"), str):
            self.inherited_bytes += self.catalog.agents_bytes(flow["id"])
        return self.inherited_bytes > MAX_INHERITED_BYTES

    def source(self, path: Path, definition: dict[str, Any], flow: Flow) -> FlowSource:
        document, catalog = self.contents.document, self.catalog
        assert document is not None  # noqa: S101 - only a file that was read has flows
        line, column = document.position(path) if path else document.beginning()
        disabled = disabled_agents(flow.id, catalog)
        return FlowSource(
            flow.with_bundle(self.bundle(definition)),
            self.contents.file,
            path,
            line,
            column,
            definition,
            tuple(f"{quoted(agent.id)} in {catalog.location_of(agent)}" for agent in disabled),
        )

    def bundle(self, definition: dict[str, Any]) -> Bundle:
        """Return what a flow uses."""
        agents = self.catalog.agents_of(definition["id"])
        if not self.contents.needs and not agents:
            return _EMPTY_BUNDLE
        used = self.catalog.closure(needs_of(definition))
        return bundle_of((*(artifact for artifact in used if artifact is not None), *agents))

    def locate(self, path: Path, flow: dict[str, Any], found: list[Diagnostic]) -> None:
        """Add a flow's diagnostics to those of the file that has what is wrong."""
        blamed: set[Path] = set()
        for diagnostic in found:
            origin = self.origin(flow, diagnostic.path)
            if origin is None:
                self.diagnostics.append(diagnostic.below(*path))
            elif origin.artifact.file == self.contents.file:
                own_path = (*origin.artifact.path, *origin.path)
                self.diagnostics.append(replace(diagnostic, path=own_path))
            else:
                self.add_inherited(path, origin, diagnostic, blamed)

    def origin(self, flow: dict[str, Any], path: Path) -> Origin | None:
        if path[:1] == ("flowVariables",) and path[1:]:
            agent = variable_origin(flow, path[1], self.catalog)
            return None if agent is None else Origin(agent, path, ())
        return self.definitions.origin(flow, path)

    def add_inherited(self, path: Path, origin: Origin, diagnostic: Diagnostic, blamed: set[Path]) -> None:
        document, artifact = self.contents.document, origin.artifact
        assert document is not None  # noqa: S101 - only a file that was read has flows
        line, column = document.position((*path, *origin.step))
        user = f"{self.contents.file}:{line}:{column}"
        self.inherited.append(InheritedProblem(artifact, replace(diagnostic, path=origin.path), user))
        if diagnostic.severity is Severity.ERROR and origin.step not in blamed:
            blamed.add(origin.step)
            is_step = artifact.kind is ArtifactKind.STEP_DEFINITION
            here = (*path, *origin.step, *(("stepDefinitionId",) if is_step else ()))
            self.diagnostics.append(
                Diagnostic(
                    here,
                    f"{artifact.kind.label} {quoted(artifact.id)} has a field that does not work here, in "
                    f"{self.catalog.location_of(artifact, origin.path)}: {diagnostic.message}",
                )
            )

    def mark_broken(self, flow: dict[str, Any]) -> None:
        if isinstance(flow.get("id"), str):
            self.broken.append(flow["id"])


def _uncheckable(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "this flow is nested too deeply to be checked; make its steps and expressions flatter"
    return f"this flow cannot be checked: {type(error).__name__}: {error}"
