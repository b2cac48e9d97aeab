"""A flow as its page shows it: its source with warnings, its versions, and its payload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy.orm import Session

from airflow_allma.configuration import allowed_notifiers, allowed_secrets, external_modules
from airflow_allma.dag_factory.plan.payload_params import inferred_inputs
from airflow_allma.flow import Flow
from airflow_allma.flow.diagnostics import Severity
from airflow_allma.flow.documents import Document
from airflow_allma.flow.input_schema import declared_properties
from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import flow_checks
from airflow_allma.server.dag_flows import DagFlow, DagFlows
from airflow_allma.server.flow_list import schedule_in_words
from airflow_allma.server.run_database import dag_versions
from airflow_allma.server.run_rows import DagRow, VersionRow
from airflow_allma.server.run_view import epoch

__all__ = ["flow_page"]

_MAX_VERSIONS: Final = 20
"""Each has a flow, which is read when it is first shown."""
_MAX_KEPT: Final = 16


def flow_page(session: Session, flows: DagFlows, dag: DagRow, found: DagFlow) -> dict[str, Any]:
    """Return what the page of a flow shows, but for its picture."""
    flow = found.flow
    return {
        "isFlow": True,
        "dagId": dag.dag_id,
        "flowId": flow.id,
        "version": flow.version,
        "name": dag.name,
        "description": dag.description,
        "paused": dag.is_paused,
        "schedule": schedule_in_words(dag),
        "source": found.source,
        "problems": _problems(found.source),
        "versions": [
            _version(session, flows, dag.dag_id, version)
            for version in dag_versions(session, dag.dag_id, _MAX_VERSIONS)
        ],
        "payload": _payload(flow),
    }


def _version(session: Session, flows: DagFlows, dag_id: str, version: VersionRow) -> dict[str, Any]:
    found = flows.of_version(session, dag_id, version)
    return {
        "version": None if found is None else found.flow.version,
        "dagVersion": version.number,
        "createdAt": epoch(version.created_at),
    }


@lru_cache(_MAX_KEPT)
def _problems(source: str) -> tuple[dict[str, Any], ...]:
    """Return the warnings about a flow, at their lines of this source.

    Errors are left out: a flow with errors has no Dag, and what other files define is not known here.
    """
    document = Document("", source)
    checks = flow_checks(allowed_secrets(), allowed_notifiers(), external_modules())
    checked = check_flow(document.value, checks=checks)
    warnings = [found for found in checked.diagnostics if found.severity is not Severity.ERROR]
    return tuple(
        {
            "line": problem.line,
            "column": problem.column,
            "path": problem.path,
            "severity": "warning",
            "message": problem.message,
        }
        for problem in document.locate(warnings)
    )


def _payload(flow: Flow) -> dict[str, Any]:
    schema = flow.airflow.input_schema
    if schema is None:
        return {"schema": None, "example": dict.fromkeys(inferred_inputs(flow))}
    declared = declared_properties(schema)
    example = {name: _example(part) for name, part in declared.items() if part is not False}
    return {"schema": schema, "example": example}


def _example(part: Any) -> Any:
    """Return a value for a property: its default or first example, or an empty one of its type."""
    if not isinstance(part, dict):
        return None
    for keyword in ("default", "const"):
        if keyword in part:
            return part[keyword]
    for keyword in ("examples", "enum"):
        if isinstance(part.get(keyword), list) and part[keyword]:
            return part[keyword][0]
    kind = part.get("type")
    return _EMPTY.get(str(kind[0] if isinstance(kind, list) and kind else kind))


_EMPTY: Final[Mapping[str, Any]] = {
    "string": "",
    "number": 0,
    "integer": 0,
    "boolean": False,
    "array": [],
    "object": {},
}
