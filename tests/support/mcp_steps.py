"""MCP_CALL steps that call a test's server."""

from __future__ import annotations

from typing import Any

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine import EngineSettings, compile_flow
from airflow_allma.engine.secrets import Secrets
from airflow_allma.flow import Bundle, McpConnection
from tests.support.engine import Fakes, FlowResult, flow_of, run
from tests.support.mail_steps import Connections

KEY = "planted-key-4711"


def mcp_step(tool: str = "find", **fields: Any) -> dict[str, Any]:
    """Return a step that calls a tool of the connection ``wiki``."""
    return {"stepType": "MCP_CALL", "connection": "wiki", "toolName": tool, **fields}


def wiki(url: str, **fields: Any) -> ConnectionSecret:
    """Return the connection ``wiki``."""
    return ConnectionSecret("wiki", "mcp", url, **{"password": KEY, **fields})


def entry(url: str, kind: str = "NONE", **authentication: Any) -> McpConnection:
    """Return the exported connection ``wiki``."""
    document = {"id": "wiki", "serverUrl": url, "authentication": {"type": kind, **authentication}}
    return McpConnection.model_validate(document, by_alias=True, by_name=False)


def call_tool(
    url: str,
    tool: str = "find",
    arguments: dict[str, Any] | None = None,
    *,
    connections: Connections | None = None,
    settings: EngineSettings | None = None,
    fakes: Fakes | None = None,
    entries: tuple[McpConnection, ...] = (),
    **fields: Any,
) -> FlowResult:
    """Call one tool of the server at a URL, with two tries."""
    flow = flow_of({"a": mcp_step(tool, literals=arguments or {}, **fields)})
    return run(
        compile_flow(flow.with_bundle(Bundle(connections=entries))),
        fakes=fakes,
        secrets=Secrets(connections or Connections(wiki(url))),
        settings=settings or EngineSettings(transient_tries=2),
    )
