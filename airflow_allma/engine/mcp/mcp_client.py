"""One session with an MCP server, with the protocol's own SDK.

Importing this module imports the SDK, which takes a second.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    CallToolRequest,
    CallToolRequestParams,
    Implementation,
    ListToolsRequest,
    PaginatedRequestParams,
)
from pydantic import TypeAdapter, ValidationError

from airflow_allma.engine.mcp.mcp_failures import McpFailure, protocol_error
from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.mcp.mcp_transport import MAX_ANSWER_BYTES, McpTransport, http_client, network
from airflow_allma.engine.mcp.program_log import ProgramLog, open_program_log
from airflow_allma.engine.mcp.tool_catalog import OWN_SCHEMA
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import PermanentStepError, StepError

__all__ = ["McpClient", "open_client"]

_ANY: Final[TypeAdapter[Any]] = TypeAdapter(dict[str, Any])
# The SDK's own messages for requests without a response; servers use the same code for other errors.
_CLOSED: Final = "Connection closed"
_ENDED: Final = (
    _CLOSED,
    "SSE stream ended without a response",
    "SSE stream ended and reconnection attempts were exhausted",
)
_READ_SECONDS: Final = 0.5
"""Time limit for reading the last lines of a program that has ended."""

_UNREADABLE: Final = "Failed to parse"
# The SDK logs failures with what the server sent; here they become errors of the step instead.
# Debug lines show response headers, with the session's id before it can be masked.
_LEVELS: Final = {
    "httpcore2": logging.INFO,
    "httpx2": logging.WARNING,
    "mcp.client.streamable_http": logging.CRITICAL,
}


class _Dispatcher(JSONRPCDispatcher[Any]):
    """The SDK's dispatcher, which also reports a closed connection, and accepts tools without a schema."""

    def __init__(self, read: Any, write: Any, when_closed: Callable[[], None]) -> None:
        super().__init__(read, write)
        self._when_closed = when_closed

    async def run(self, *args: Any, **kwargs: Any) -> None:
        """Read messages until the server closes the connection."""
        try:
            await super().run(*args, **kwargs)
        finally:
            self._when_closed()

    async def send_raw_request(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Send a request and return its result."""
        result = await super().send_raw_request(method, *args, **kwargs)
        tools = result.get("tools") if method == "tools/list" else None
        if isinstance(tools, list):
            # The SDK rejects the whole list if one tool has no schema, or a field that is not valid.
            result = {**result, "tools": [_plain(tool) for tool in tools if _is_tool(tool)]}
        return result


def _is_tool(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("name"), str)


def _plain(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool that the SDK accepts; ``OWN_SCHEMA`` in its schema has the tool's own schema."""
    description = tool.get("description")
    return {
        "name": tool["name"],
        "description": description if isinstance(description, str) else "",
        "inputSchema": {"type": "object", OWN_SCHEMA: tool.get("inputSchema")},
    }


class McpClient:
    """Sends the requests of one session, and turns failures into step errors."""

    def __init__(
        self,
        session: ClientSession,
        transport: McpTransport | None,
        server: McpServer,
        secrets: Secrets,
        when_closed: Callable[[], None],
        *,
        log: ProgramLog | None = None,
    ) -> None:
        self._session = session
        self._when_closed = when_closed
        self._log = log
        self._transport = transport
        self._server = server
        self._masks = secrets.masks

    async def initialize(self) -> None:
        """Send the handshake that begins the session.

        Raises:
            StepError: the server does not respond, or not as the protocol requires.
        """
        await self._doing("the handshake", self._session.initialize)

    async def list_page(self, cursor: str | None) -> dict[str, Any]:
        """Return one page of the list of tools, in the form of the protocol; raise as ``initialize``."""
        parameters = None if cursor is None else PaginatedRequestParams(cursor=cursor)
        request = ListToolsRequest(params=parameters)
        page: dict[str, Any] = await self._doing(
            "the list of tools", lambda: self._session.send_request(request, _ANY)
        )
        return page

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its result, in the form of the protocol; raise as ``initialize``."""
        # The session's own method would validate the result with a schema of the server, without limits.
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
        result: dict[str, Any] = await self._doing(
            f"the call of tool {name!r}", lambda: self._session.send_request(request, _ANY)
        )
        return result

    async def _doing(self, what: str, send: Callable[[], Any]) -> Any:
        try:
            return await send()
        except MCPError as error:
            if self._log is not None and error.code == CONNECTION_CLOSED:
                await self._log.ended(_READ_SECONDS)
            raise self._error_of(error, what) from None
        except ValidationError as error:
            reasons = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
                for one in error.errors(include_input=False)[:3]
            )
            # Its own message shows what the server sent.
            raise PermanentStepError(
                f"The answer of {self._server.name} to {what} is not as the protocol says: "
                f"{self._masks.text(reasons)}.",
                details={"connection": self._server.id},
            ) from None
        except RuntimeError as error:
            raise PermanentStepError(
                f"The session with {self._server.name} failed at {what}: {self._masks.text(str(error))}",
                details={"connection": self._server.id},
            ) from None

    def _error_of(self, error: MCPError, what: str) -> StepError:
        failure = self._transport.failure(error.data) if self._transport is not None else None
        if failure is None and error.code == CONNECTION_CLOSED and error.message in _ENDED:
            failure = McpFailure(
                "The connection was closed, no answer", is_transient=True, advice=self._last_lines()
            )
            if error.message == _CLOSED:
                # The dispatcher reports it only later.
                self._when_closed()
        elif failure is None and error.code == PARSE_ERROR and error.message.startswith(_UNREADABLE):
            failure = McpFailure("An answer that is not a JSON-RPC message", is_transient=False)
        if failure is not None:
            return failure.as_error(self._server)
        return protocol_error(self._server, self._masks, what, error.code, error.message)

    def _last_lines(self) -> str:
        lines = self._log.last_lines() if self._log is not None else []
        return f"Its last lines on standard error: {' / '.join(lines)}" if lines else ""


@asynccontextmanager
async def open_client(
    server: McpServer, secrets: Secrets, when_closed: Callable[[], None]
) -> AsyncIterator[McpClient]:
    """Open a connection; its user begins the session with ``initialize``.

    The SDK requires that the task that opened it also closes it. Other tasks can use it meanwhile.

    Args:
        server: the server.
        secrets: mask what the server sends.
        when_closed: called when the server or this process has closed the connection.
    """
    _quiet()
    if server.command:
        async with (
            _program(server, secrets) as (streams, log),
            _session(*streams, when_closed) as session,
        ):
            yield McpClient(session, None, server, secrets, when_closed, log=log)
        return
    transport = McpTransport(network(server), secrets)
    async with (
        http_client(server, transport) as http,
        streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_ANSWER_BYTES) as streams,
        _session(*streams, when_closed) as session,
    ):
        yield McpClient(session, transport, server, secrets, when_closed)


def _session(read: Any, write: Any, when_closed: Callable[[], None]) -> ClientSession:
    identity = Implementation(name="airflow-allma", version=version("airflow-allma"))
    return ClientSession(dispatcher=_Dispatcher(read, write, when_closed), client_info=identity)


@asynccontextmanager
async def _program(server: McpServer, secrets: Secrets) -> AsyncIterator[tuple[tuple[Any, Any], ProgramLog]]:
    command, *arguments = server.command
    parameters = StdioServerParameters(command=command, args=arguments, env=dict(server.environment))
    async with (
        open_program_log(server, secrets.masks) as (log, errors),
        stdio_client(parameters, errlog=errors) as streams,
    ):
        errors.close()
        yield streams, log


def _quiet() -> None:
    """Stop the SDK from logging each request and the session's id, unless a level is configured."""
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
