"""``airflow-allma mcp``: the tools of MCP servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import typer

from airflow_allma.cli.cli_secrets import open_secrets
from airflow_allma.cli.environment_settings import boolean_setting
from airflow_allma.cli.json_options import UsageError
from airflow_allma.common.nearest import nearest
from airflow_allma.common.printable import printable
from airflow_allma.engine.mcp.mcp_server import resolve_server
from airflow_allma.engine.mcp.mcp_sessions import McpSessions
from airflow_allma.engine.mcp.tool_catalog import McpTool, ToolCatalog
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import SecretError, StepError
from airflow_allma.flow import McpConnection
from airflow_allma.loading import load_flow_files

__all__ = ["list_tools"]

_MAX_LINE: Final = 200


def list_tools(connection: str, *, folder: Path | None, as_json: bool) -> int:
    """Print the tools of a server: name, first line of the description, arguments.

    Args:
        connection: the id of an Airflow connection in the environment, or of one that the folder defines.
        folder: a folder with flow files, whose ``mcpConnections`` are looked up first; None for none.
        as_json: whether to print one JSON list, with the schemas.

    Returns:
        The exit code: 0; 1 if the server does not respond as it should; 2 if the command is not valid.
    """
    secrets = open_secrets()
    try:
        entry = None if folder is None else _entry(connection, folder)
        catalog = asyncio.run(_catalog(connection, entry, secrets))
    except (UsageError, SecretError) as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except StepError as error:
        typer.echo(f"error: {secrets.mask_error(error).message}", err=True)
        return 1
    tools = [catalog.tools[name] for name in sorted(catalog.tools)]
    if as_json:
        typer.echo(json.dumps([_document(tool) for tool in tools]))
    else:
        typer.echo("\n".join(line for tool in tools for line in _lines(tool)) or "The server lists no tools.")
    if not catalog.is_complete:
        typer.echo("warning: the server may have other tools, which it does not list", err=True)
    return 0


def _entry(connection_id: str, folder: Path) -> McpConnection | None:
    """Return the connection that the folder defines; None if the environment must have it."""
    known = {entry.id: entry for file in load_flow_files([folder]).files for entry in file.bundle.connections}
    entry = known.get(connection_id)
    if entry is None and (guess := nearest(connection_id, known)):
        raise UsageError(f"{folder} defines no MCP connection {connection_id!r}; did you mean {guess!r}?")
    return entry


async def _catalog(connection_id: str, entry: McpConnection | None, secrets: Secrets) -> ToolCatalog:
    allow_stdio = boolean_setting("mcp_stdio")
    server = await resolve_server(
        entry, None if entry is not None else connection_id, secrets, allow_stdio=allow_stdio
    )
    sessions = McpSessions()
    try:
        return await sessions.run(server, secrets, lambda session: session.catalog())
    finally:
        await sessions.close()


def _document(tool: McpTool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "inputSchema": tool.schema}


def _lines(tool: McpTool) -> Iterable[str]:
    first = next((line.strip() for line in tool.description.splitlines() if line.strip()), "")
    yield printable(tool.name + (f": {first[:_MAX_LINE]}" if first else ""))
    properties = (tool.schema or {}).get("properties")
    required = (tool.schema or {}).get("required")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        kind = _kind(schema)
        needed = ", required" if isinstance(required, list) and name in required else ""
        default = f", default {json.dumps(schema['default'])}" if "default" in _object(schema) else ""
        yield printable(f"    {name}: {kind}{needed}{default}"[:_MAX_LINE])


def _kind(schema: Any) -> str:
    """Return the type of a property, in a few words."""
    kind = _object(schema).get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if isinstance(kind, str):
        return kind
    choices = _object(schema).get("anyOf")
    return " or ".join(_kind(choice) for choice in choices[:5]) if isinstance(choices, list) else "any"


def _object(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {}
