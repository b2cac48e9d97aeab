"""The content of a flow file, checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_allma.flow.bundle import Agent, Export, McpConnection, PromptTemplate
from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.definitions import StepDefinitions
from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, json_path, quoted
from airflow_allma.flow.documents import Document, UnreadableDocumentError, read_document
from airflow_allma.flow.expression_fields import check_template
from airflow_allma.flow.models import Flow
from airflow_allma.flow.pydantic_errors import diagnostics_of
from airflow_allma.flow.validation import check_flow

__all__ = ["Bundle", "FileKind", "FlowSource", "LoadedFile", "load_file"]

PROMPT_SUFFIX = ".prompt.json"
MAX_STEPS = 2_000
"""Steps refer to each other, so checking takes longer than in proportion; Airflow is slow with far fewer."""
_NO_CHECKS: Final = FlowChecks()
_EXPORT_PARTS = ("flows", "stepDefinitions", "promptTemplates", "mcpConnections", "agents")


class FileKind(StrEnum):
    """What a file contains."""

    FLOW = "flow"
    EXPORT = "export"
    PROMPT = "prompt"
    OTHER = "other"
    """JSON, but neither of these."""
    UNREADABLE = "unreadable"
    """Not JSON, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a file contains for its flows.

    Attributes:
        prompts: prompt templates, all versions.
        connections: MCP servers.
        agents: groups of flows that share variables.
    """

    prompts: tuple[PromptTemplate, ...] = ()
    connections: tuple[McpConnection, ...] = ()
    agents: tuple[Agent, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A valid flow and its source.

    Attributes:
        flow: the flow.
        file: path of its file, as the caller passed it.
        path: where in the file it is: ``()`` in a file of its own, ``("flows", 2)`` in an export.
        line: line of its first character, from 1.
        column: column likewise.
        definition: the JSON object as its file has it.
        bundle: what its file contains for it.
    """

    flow: Flow
    file: str
    path: Path
    line: int
    column: int
    definition: dict[str, Any] = field(repr=False)
    bundle: Bundle = field(repr=False)

    @property
    def path_key(self) -> tuple[str, ...]:
        """The key that sorts the flows of one file in the order of the file."""
        return tuple(f"{segment:09d}" if isinstance(segment, int) else segment for segment in self.path)

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem with the flow as a whole."""
        return Problem(self.file, self.line, self.column, json_path(self.path), message, severity)


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What was read from one file.

    Attributes:
        file: its path, as the caller passed it.
        kind: what it contains.
        flows: its valid flows; of an export those without errors.
        problems: all errors and warnings, in the order of their positions.
        bundle: what else it contains.
        broken_flow_ids: ids of flows that have errors, where the id itself could be read.
    """

    file: str
    kind: FileKind
    flows: tuple[FlowSource, ...] = ()
    problems: tuple[Problem, ...] = ()
    bundle: Bundle = Bundle()
    broken_flow_ids: tuple[str, ...] = ()

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
    shown = file if file is not None else str(path)
    try:
        document = read_document(FilePath(path), shown)
    except UnreadableDocumentError as error:
        return LoadedFile(shown, FileKind.UNREADABLE, problems=error.problems)
    return _FileReader(document, checks).read()


_M = TypeVar("_M", bound=BaseModel)


class _FileReader:
    def __init__(self, document: Document, checks: FlowChecks) -> None:
        self.document = document
        self.checks = checks
        self.diagnostics: list[Diagnostic] = []
        self.broken: list[str] = []

    def read(self) -> LoadedFile:
        value = self.document.value
        if self.document.file.endswith(PROMPT_SUFFIX):
            prompt = self.prompt(value)
            return self.result(FileKind.PROMPT, bundle=Bundle(prompts=(prompt,) if prompt else ()))
        if _is_flow(value):
            return self.result(FileKind.FLOW, self.flows([((), value)], StepDefinitions(), Bundle()))
        if _is_export(value):
            return self.export(value)
        self.diagnostics.append(
            Diagnostic(
                (),
                "neither a flow (an object with `steps` and `startStepInstanceId`) nor an export "
                f'(`"formatVersion": "1.0"` and `flows`); ignored{_why_no_flow(value)}',
                Severity.WARNING,
            )
        )
        return self.result(FileKind.OTHER)

    def result(
        self, kind: FileKind, flows: Iterable[FlowSource] = (), bundle: Bundle | None = None
    ) -> LoadedFile:
        return LoadedFile(
            self.document.file,
            kind,
            tuple(flows),
            self.document.locate(self.diagnostics) if self.diagnostics else (),
            bundle or Bundle(),
            tuple(self.broken),
        )

    def prompt(self, value: Any) -> PromptTemplate | None:
        prompt = self.model(PromptTemplate, value)
        self.check_prompt_content(value, ())
        return None if self.diagnostics else prompt

    def check_prompt_content(self, prompt: Any, path: Path) -> None:
        content = prompt.get("content") if isinstance(prompt, dict) else None
        if isinstance(content, str) and self.checks.expressions is not None:
            self.diagnostics += check_template(content, (*path, "content"), self.checks.expressions)

    def model(self, model: type[_M], value: Any) -> _M | None:
        try:
            return model.model_validate(value, by_alias=True, by_name=False)
        except ValidationError as error:
            self.diagnostics += diagnostics_of(error, value)
            return None

    def export(self, value: dict[str, Any]) -> LoadedFile:
        export = self.model(Export, value)
        prompts = value.get("promptTemplates")
        for index, prompt in enumerate(prompts if isinstance(prompts, list) else ()):
            self.check_prompt_content(prompt, ("promptTemplates", index))
        agents = value.get("agents")
        for index, agent in enumerate(agents if isinstance(agents, list) else ()):
            if isinstance(agent, dict):
                self.diagnostics.append(
                    Diagnostic(
                        ("agents", index),
                        "this has no effect: agents are not applied to flows yet; write their "
                        "`flowVariables` in the flows themselves",
                        Severity.WARNING,
                    )
                )
        bundle = (
            Bundle(export.prompt_templates, export.mcp_connections, export.agents) if export else Bundle()
        )
        listed = value.get("flows")
        located: list[tuple[Path, Any]] = [
            (("flows", index), flow) for index, flow in enumerate(listed if isinstance(listed, list) else ())
        ]
        definitions = StepDefinitions.of(value.get("stepDefinitions"))
        return self.result(FileKind.EXPORT, self.flows(located, definitions, bundle), bundle)

    def flows(
        self, located: Iterable[tuple[Path, Any]], definitions: StepDefinitions, bundle: Bundle
    ) -> tuple[FlowSource, ...]:
        sources = (self.flow(path, flow, definitions, bundle) for path, flow in located)
        return tuple(source for source in sources if source is not None)

    def flow(self, path: Path, flow: Any, definitions: StepDefinitions, bundle: Bundle) -> FlowSource | None:
        if not isinstance(flow, dict):
            self.diagnostics.append(
                Diagnostic(path, "must be a flow, an object with `steps` and `startStepInstanceId`")
            )
            return None
        if (steps := _count_steps(flow)) > MAX_STEPS:
            self.diagnostics.append(
                Diagnostic(
                    (*path, "steps"),
                    f"a flow can have at most {MAX_STEPS} steps, and this one has {steps}; "
                    "split it into several flows",
                )
            )
            self.mark_broken(flow)
            return None
        try:
            checked = check_flow(flow, definitions, self.checks)
        except Exception as error:  # noqa: BLE001 - other files must load, and the problem is shown
            self.diagnostics.append(Diagnostic(path, _uncheckable(error)))
            self.mark_broken(flow)
            return None
        for diagnostic in checked.diagnostics:
            origin = definitions.origin(flow, diagnostic.path)
            self.diagnostics.append(
                diagnostic.below(*path) if origin is None else replace(diagnostic, path=origin)
            )
        if checked.flow is None:
            self.mark_broken(flow)
            return None
        line, column = self.document.position(path) if path else self.document.beginning()
        return FlowSource(checked.flow, self.document.file, path, line, column, flow, bundle)

    def mark_broken(self, flow: dict[str, Any]) -> None:
        if isinstance(flow.get("id"), str):
            self.broken.append(flow["id"])


def _uncheckable(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "this flow is nested too deeply to be checked; make its steps and expressions flatter"
    return f"this flow cannot be checked: {type(error).__name__}: {error}"


def _count_steps(flow: dict[str, Any]) -> int:
    """Return the number of steps, including those in branches."""
    count = 0
    waiting = [flow.get("steps")]
    while waiting:
        steps = waiting.pop()
        inside = steps.values() if isinstance(steps, dict) else steps if isinstance(steps, list) else ()
        count += len(inside)
        for step in inside:
            branches = step.get("parallelBranches") if isinstance(step, dict) else None
            if isinstance(branches, list):
                waiting.extend(branch.get("steps") for branch in branches if isinstance(branch, dict))
    return count


def _is_flow(value: Any) -> bool:
    """Return whether a value is a flow, or was obviously intended to be one."""
    if not isinstance(value, dict) or "formatVersion" in value:
        return False
    steps = value.get("steps")
    if "startStepInstanceId" in value:
        return True
    return isinstance(steps, dict) and any(
        isinstance(step, dict) and "stepType" in step for step in steps.values()
    )


def _why_no_flow(value: Any) -> str:
    """Return what to do about a flow inside of something else; empty if there is none."""
    if isinstance(value, list):
        return "; a file contains one flow, not a list" if any(map(_is_flow, value)) else ""
    if not isinstance(value, dict):
        return ""
    flows = value.get("flows")
    if isinstance(flows, list) and "formatVersion" not in value and any(map(_is_flow, flows)):
        return '; add `"formatVersion": "1.0"` next to `flows`'
    key = next((key for key, member in value.items() if _is_flow(member)), None)
    return (
        ""
        if key is None
        else f"; the flow is inside {quoted(key)}, so move its fields to the top of the file"
    )


def _is_export(value: Any) -> bool:
    return (
        isinstance(value, dict) and "formatVersion" in value and any(part in value for part in _EXPORT_PARTS)
    )
