"""Rules for MCP_CALL steps that look beyond the step: allowed credentials, and the installed SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from airflow_allma.flow.artifacts import ArtifactKind
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.diagnostics import Diagnostic, Severity
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.flow.tree_walk import Scope

__all__ = ["check_mcp_steps"]


def check_mcp_steps(
    all_scopes: Sequence[Scope], catalog: Catalog, allowed: AllowedSecrets
) -> Iterator[Diagnostic]:
    """Yield what is wrong with the servers that steps call.

    Args:
        all_scopes: the steps of the flow.
        catalog: has the MCP connections of the folder.
        allowed: the connections that flows may use.
    """
    steps = [step for scope in all_scopes for step in scope.steps.values() if step.kind == "MCP_CALL"]
    is_installed = not steps or find_spec("mcp") is not None
    for located in steps:
        if not is_installed:
            yield Diagnostic(
                (*located.path, "stepType"),
                "MCP_CALL needs the package `mcp`, which is not installed here; install `airflow-allma[mcp]` "
                "where the step runs",
                Severity.WARNING,
            )
        entry_id = located.step.get("mcpConnectionId")
        if not isinstance(entry_id, str) or located.step.get("connection") is not None:
            continue
        # Its credentials are those of the Airflow connection with the same id.
        entry = catalog.find((ArtifactKind.CONNECTION, entry_id))
        if entry is not None and _needs_credentials(entry.value) and (reason := allowed.refusal(entry_id)):
            yield Diagnostic((*located.path, "mcpConnectionId"), reason)


def _needs_credentials(entry: Mapping[str, Any]) -> bool:
    authentication = entry.get("authentication")
    return isinstance(authentication, dict) and authentication.get("type", "NONE") != "NONE"
