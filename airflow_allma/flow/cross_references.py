"""The ids with which a flow refers to prompts, MCP connections and other flows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.flow.agent_variables import disabled_agents
from airflow_allma.flow.artifacts import ArtifactKind
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.tree_walk import Scope, branches_of

__all__ = ["check_cross_references"]


@dataclass(frozen=True, slots=True)
class _Field:
    step_type: str
    paths: tuple[Path, ...]
    kind: ArtifactKind
    version: str = ""
    severity: Severity = Severity.ERROR


_FIELDS: Final = (
    _Field("LLM_INVOCATION", (("promptTemplateId",),), ArtifactKind.PROMPT),
    _Field("MCP_CALL", (("mcpConnectionId",),), ArtifactKind.CONNECTION),
    _Field("START_SUB_FLOW", (("subFlowDefinitionId",),), ArtifactKind.FLOW, "subFlowVersion"),
    _Field(
        "START_FLOW_EXECUTION",
        (
            ("flowDefinitionId",),
            ("customConfig", "flowDefinitionId"),
            ("literals", "flowDefinitionId"),
        ),
        ArtifactKind.FLOW,
        "flowVersion",
        # Another loader can have its Dag.
        Severity.WARNING,
    ),
)
_LATEST: Final = "LATEST_PUBLISHED"
_VERSION: Final = re.compile("[1-9][0-9]*")
_BY_TYPE: Final = {field.step_type: field for field in _FIELDS}


def check_cross_references(all_scopes: Sequence[Scope], catalog: Catalog) -> Iterator[Diagnostic]:
    """Yield the ids that no file defines; nothing if the catalog does not know all files."""
    if not catalog.is_complete:
        return
    for scope in all_scopes:
        for located in scope.steps.values():
            if field := _BY_TYPE.get(located.kind):
                for path in field.paths:
                    yield from _check(field, located.path, located.step, path, catalog)
            for path, branch in branches_of(located):
                if branch.get("stepType") == "START_SUB_FLOW":
                    field = _BY_TYPE["START_SUB_FLOW"]
                    yield from _check(field, path, branch, field.paths[0], catalog)


def _at(step: Mapping[str, Any], path: Path) -> Any:
    value: Any = step
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check(
    field: _Field, base: Path, step: Mapping[str, Any], path: Path, catalog: Catalog
) -> Iterator[Diagnostic]:
    value = _at(step, path)
    if not isinstance(value, str) or not value or _is_computed(value):
        # Missing ones are other checks' business, and what is computed is known when the step runs.
        return
    if reason := catalog.missing((field.kind, value)):
        yield Diagnostic((*base, *path), reason, field.severity)
    elif field.kind is ArtifactKind.FLOW:
        yield from _check_flow(field, base, step, path, catalog)


def _check_flow(
    field: _Field, base: Path, step: Mapping[str, Any], path: Path, catalog: Catalog
) -> Iterator[Diagnostic]:
    """Yield why a known flow does not run as the step says."""
    flow_id = _at(step, path)
    if disabled := disabled_agents(flow_id, catalog):
        names = ", ".join(f"{quoted(agent.id)} in {catalog.location_of(agent)}" for agent in disabled)
        yield Diagnostic(
            (*base, *path),
            f"flow {quoted(flow_id)} does not run, as all of its agents are disabled: {names}; set `enabled` "
            "to true, or this step fails",
            Severity.WARNING,
        )
    # The step's own field wins over those of its input.
    versions = ((*path[:-1], field.version), (field.version,), ("literals", field.version))
    where = next((one for one in versions[1:] if _at(step, one) is not None), versions[0])
    version = _at(step, where)
    version = _LATEST if version is None else version
    if not isinstance(version, str) or _is_computed(version):
        return
    if version != _LATEST and not _VERSION.fullmatch(version):
        yield Diagnostic(
            (*base, *where),
            f'{quoted(version)} is not a version; write its number in quotes, such as `"3"`, or `{_LATEST}`',
        )
    elif reason := catalog.missing_version(flow_id, version):
        place = where if version != _LATEST else path
        yield Diagnostic((*base, *place), reason, field.severity)


def _is_computed(value: str) -> bool:
    return "{{" in value or value.startswith("$")
