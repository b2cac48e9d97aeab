"""What files define for flows: step definitions, prompts, MCP connections and agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.bundle import Agent, Bundle, McpConnection, PromptTemplate, StepDefinition
from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.field_homes import fields_of
from airflow_allma.flow.located_expressions import check_template
from airflow_allma.flow.model_base import Model
from airflow_allma.flow.pydantic_errors import diagnostics_of

__all__ = [
    "Artifact",
    "ArtifactKind",
    "Need",
    "bundle_of",
    "mentions_needs",
    "needs_of",
    "read_artifact",
    "read_artifacts",
]


class ArtifactKind(StrEnum):
    """The kinds of artifacts, by their lists in an export."""

    STEP_DEFINITION = "stepDefinitions"
    PROMPT = "promptTemplates"
    CONNECTION = "mcpConnections"
    AGENT = "agents"
    FLOW = "flows"
    """Only as something that is needed: a flow that another one starts."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return _LABELS[self]


_LABELS: Final = {
    ArtifactKind.STEP_DEFINITION: "step definition",
    ArtifactKind.PROMPT: "prompt",
    ArtifactKind.CONNECTION: "MCP connection",
    ArtifactKind.AGENT: "agent",
    ArtifactKind.FLOW: "flow",
}
_MODELS: Final[Mapping[ArtifactKind, type[Model]]] = {
    ArtifactKind.STEP_DEFINITION: StepDefinition,
    ArtifactKind.PROMPT: PromptTemplate,
    ArtifactKind.CONNECTION: McpConnection,
    ArtifactKind.AGENT: Agent,
}

_BOOKKEEPING: Final = frozenset({"createdAt", "publishedAt", "updatedAt"})

Need = tuple[ArtifactKind, str]
"""Something that a flow refers to: its kind and id."""

_NEEDING_FIELDS: Final = {
    "stepDefinitionId": ArtifactKind.STEP_DEFINITION,
    "promptTemplateId": ArtifactKind.PROMPT,
    "mcpConnectionId": ArtifactKind.CONNECTION,
    "subFlowDefinitionId": ArtifactKind.FLOW,
    "flowDefinitionId": ArtifactKind.FLOW,
}


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """One version of a step definition, a prompt, a connection or an agent.

    Two artifacts are never equal: a file that was read again may have the same content in other lines.

    Attributes:
        kind: what it is.
        id: its id, not empty.
        version: its version; None if its kind has none, or it is not a version.
        is_published: whether it counts.
        value: the JSON object as its file has it.
        model: None if it has errors.
        file: path of its file, as the caller passed it.
        path: where in the file it is.
        needs: what it refers to.
    """

    kind: ArtifactKind
    id: str
    version: int | None
    is_published: bool
    value: Mapping[str, Any]
    model: Model | None
    file: str
    path: Path
    needs: frozenset[Need]


def read_artifacts(
    file: str, export: Mapping[str, Any], checks: FlowChecks, diagnostics: list[Diagnostic]
) -> tuple[Artifact, ...]:
    """Return what an export defines for flows, also what has errors; report the errors."""
    return tuple(
        artifact
        for kind in _MODELS
        for index, value in enumerate(_list(export.get(kind.value)))
        if (artifact := read_artifact(file, kind, (kind.value, index), value, checks, diagnostics))
    )


def read_artifact(  # noqa: PLR0917
    file: str, kind: ArtifactKind, path: Path, value: Any, checks: FlowChecks, diagnostics: list[Diagnostic]
) -> Artifact | None:
    """Return one artifact, also one with errors; report them. None without an id."""
    found: list[Diagnostic] = []
    model: Model | None = None
    try:
        model = _MODELS[kind].model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        found += diagnostics_of(error, value)
    if not isinstance(value, dict):
        diagnostics += (diagnostic.below(*path) for diagnostic in found)
        return None
    content = value.get("content")
    if kind is ArtifactKind.PROMPT and isinstance(content, str) and checks.expressions is not None:
        found += check_template(content, ("content",), checks.expressions)
    diagnostics += (diagnostic.below(*path) for diagnostic in (*found, *_misspelled(kind, value)))
    own_id, version = value.get("id"), value.get("version", 1)
    if not isinstance(own_id, str) or not own_id:
        return None
    has_version = kind in {ArtifactKind.STEP_DEFINITION, ArtifactKind.PROMPT}
    return Artifact(
        kind,
        own_id,
        version if has_version and isinstance(version, int) else None,
        value.get("isPublished") is not False or not has_version,
        value,
        None if found else model,
        file,
        path,
        needs_of(value) if kind is ArtifactKind.STEP_DEFINITION else frozenset(),
    )


def _misspelled(kind: ArtifactKind, value: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield unknown fields that are nearly known ones; those of step definitions are found in steps."""
    if kind is ArtifactKind.STEP_DEFINITION:
        return
    known = fields_of(_MODELS[kind])
    for field in value.keys() - known:
        # Tools add bookkeeping of their own, such as `createdBy`.
        guess = nearest(field, known - value.keys() - _BOOKKEEPING)
        if guess is not None:
            yield Diagnostic(
                (field,),
                f"{quoted(field)} is not a known field; did you mean {quoted(guess)}?",
                Severity.WARNING,
                at_key=True,
            )


def bundle_of(artifacts: Iterable[Artifact]) -> Bundle:
    """Return the models of the artifacts without errors."""
    models = [artifact.model for artifact in artifacts]
    return Bundle(
        tuple(model for model in models if isinstance(model, PromptTemplate)),
        tuple(model for model in models if isinstance(model, McpConnection)),
        tuple(model for model in models if isinstance(model, Agent)),
    )


def needs_of(value: Any) -> frozenset[Need]:
    """Return what a JSON value refers to, at any depth."""
    return frozenset(_needs(value))


def _needs(root: Any) -> Iterator[Need]:
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for field, member in value.items():
                if isinstance(member, dict | list):
                    waiting.append(member)
                elif field in _NEEDING_FIELDS and isinstance(member, str):
                    yield _NEEDING_FIELDS[field], member
        elif isinstance(value, list):
            waiting.extend(member for member in value if isinstance(member, dict | list))


def mentions_needs(source: str) -> bool:
    """Return whether a JSON document can refer to something; quick, without decoding it."""
    # A key can be written with escapes.
    return "\\u" in source or any(f'"{field}"' in source for field in _NEEDING_FIELDS)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
