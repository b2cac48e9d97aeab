"""The ids with which a flow refers to prompts, MCP connections and other flows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.flow.artifacts import ArtifactKind
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity
from airflow_allma.flow.tree_walk import LocatedStep, Scope, branches_of

__all__ = ["check_cross_references"]


@dataclass(frozen=True, slots=True)
class _Field:
    step_type: str
    paths: tuple[Path, ...]
    kind: ArtifactKind
    severity: Severity = Severity.ERROR


_FIELDS: Final = (
    _Field("LLM_INVOCATION", (("promptTemplateId",),), ArtifactKind.PROMPT),
    _Field("MCP_CALL", (("mcpConnectionId",),), ArtifactKind.CONNECTION),
    _Field("START_SUB_FLOW", (("subFlowDefinitionId",),), ArtifactKind.FLOW),
    _Field(
        "START_FLOW_EXECUTION",
        (
            ("flowDefinitionId",),
            ("customConfig", "flowDefinitionId"),
            ("literals", "flowDefinitionId"),
        ),
        ArtifactKind.FLOW,
        # Another loader can have its Dag.
        Severity.WARNING,
    ),
)
_BY_TYPE: Final = {field.step_type: field for field in _FIELDS}


def check_cross_references(all_scopes: Sequence[Scope], catalog: Catalog) -> Iterator[Diagnostic]:
    """Yield the ids that no file defines; nothing if the catalog does not know all files."""
    if not catalog.is_complete:
        return
    for scope in all_scopes:
        for located in scope.steps.values():
            if field := _BY_TYPE.get(located.kind):
                for path in field.paths:
                    yield from _check(field, located.path, _at(located, path), path, catalog)
            for path, branch in branches_of(located):
                if branch.get("stepType") == "START_SUB_FLOW":
                    name = "subFlowDefinitionId"
                    yield from _check(_BY_TYPE["START_SUB_FLOW"], path, branch.get(name), (name,), catalog)


def _at(located: LocatedStep, path: Path) -> Any:
    value: Any = located.step
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check(field: _Field, base: Path, value: Any, path: Path, catalog: Catalog) -> Iterator[Diagnostic]:
    if not isinstance(value, str) or not value or "{{" in value or value.startswith("$"):
        # Missing ones are other checks' business, and what is computed is known when the step runs.
        return
    if reason := catalog.missing((field.kind, value)):
        yield Diagnostic((*base, *path), reason, field.severity)
