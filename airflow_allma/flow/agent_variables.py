"""The flow variables that are known when a flow is loaded: those of its agents, then its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_allma.flow.artifacts import Artifact
from airflow_allma.flow.bundle import Agent
from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.diagnostics import Diagnostic, quoted

__all__ = ["disabled_agents", "variable_origin", "with_variables"]

_FIELD = "flowVariables"


def with_variables(
    flow: Mapping[str, Any], catalog: Catalog, diagnostics: list[Diagnostic]
) -> Mapping[str, Any]:
    """Return a flow with placeholders filled in and the variables of its enabled agents below its own.

    Of several agents, the last by id wins.

    Args:
        flow: the flow as its file has it; not changed.
        catalog: knows the agents and the values of placeholders.
        diagnostics: receives placeholders without a value, and agents that have errors.
    """
    own = flow.get(_FIELD, {})
    agents = _agents(flow, catalog)
    if not isinstance(own, dict) or not (own or agents):
        return flow
    variables: dict[str, Any] = {}
    for agent in agents:
        theirs = catalog.variables_of(agent)
        if theirs is None:
            diagnostics.append(
                Diagnostic(
                    (),
                    f"agent {quoted(agent.id)}, which has variables of this flow, has errors, in "
                    f"{catalog.location_of(agent)}; fix it there",
                )
            )
        elif _is_enabled(agent):
            variables |= theirs
    filled = catalog.deploy.fill(own, (_FIELD,), diagnostics)
    if not variables and filled is own:
        return flow
    return {**flow, _FIELD: {**variables, **filled}}


def variable_origin(flow: Mapping[str, Any], name: object, catalog: Catalog) -> Artifact | None:
    """Return the agent that sets a variable of a flow; None if the flow itself does."""
    own = flow.get(_FIELD)
    if isinstance(own, dict) and name in own:
        return None
    setting = [agent for agent in _agents(flow, catalog) if name in (catalog.variables_of(agent) or {})]
    return next((agent for agent in reversed(setting) if _is_enabled(agent)), None)


def disabled_agents(flow_id: str, catalog: Catalog) -> tuple[Artifact, ...]:
    """Return the agents of a flow if all of them are disabled; it does not run then."""
    agents = catalog.agents_of(flow_id)
    return () if any(map(_is_enabled, agents)) else agents


def _agents(flow: Mapping[str, Any], catalog: Catalog) -> tuple[Artifact, ...]:
    own_id = flow.get("id")
    return catalog.agents_of(own_id) if isinstance(own_id, str) else ()


def _is_enabled(agent: Artifact) -> bool:
    # One with errors does not disable anything: its flows have errors.
    return not isinstance(agent.model, Agent) or agent.model.enabled
