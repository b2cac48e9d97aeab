"""Handler of MCP_CALL: call a tool of an MCP server."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

from airflow_allma.engine.mcp.mcp_failures import no_answer
from airflow_allma.engine.mcp.mcp_server import McpServer, resolve_server
from airflow_allma.engine.mcp.mcp_session import DEFAULT_TIMEOUT_SECONDS, McpSession
from airflow_allma.engine.outside_calls import McpCall
from airflow_allma.engine.program import Program
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.exceptions import PermanentStepError, StepError
from airflow_allma.expressions import compile_config
from airflow_allma.flow import McpCallStep

__all__ = ["CallTool"]

_TOOL_ERROR: Final = "McpToolError"
_MAX_TEXT: Final = 2000


class CallTool(AsyncHandler):
    """Handler of MCP_CALL steps; the output is ``{"result"}``, what the tool returned.

    The arguments are checked against the tool's schema before the call.
    """

    has_side_effects = True

    def __init__(self, step: McpCallStep, scope: Program) -> None:
        self._tool = step.tool_name
        self._connection = step.connection
        self._entry_id = step.mcp_connection_id
        entries = {entry.id: entry for entry in scope.bundle.connections}
        self._entry = entries.get(step.mcp_connection_id) if step.mcp_connection_id else None
        timeout = {name: value for name, value in step.custom_config.items() if name == "timeoutMs"}
        self._config = compile_config(timeout)
        self.bounds_itself = timeout.get("timeoutMs") is not None

    async def __call__(self, call: StepCall) -> Any:
        """Call the tool.

        Raises:
            TransientStepError: the server cannot be reached, does not respond, or closes the connection.
            PermanentStepError: a connection or an argument is not valid, the server does not have the tool or
                rejects the call, or the tool failed (``McpToolError``).
            SecretError: the connection cannot be read.
        """
        services = call.services
        timeout = timeout_seconds(self._config.render(call.root(), call.load).get("timeoutMs"))
        if self._entry_id is not None and self._entry is None:
            raise PermanentStepError(
                f"No file of the flow's folder defines MCP connection {self._entry_id!r}. Add it to "
                "`mcpConnections`, or use `connection`."
            )
        server = await resolve_server(
            self._entry, self._connection, services.secrets, allow_stdio=services.settings.mcp_stdio
        )
        seconds = timeout or server.timeout or DEFAULT_TIMEOUT_SECONDS
        started, failure = perf_counter(), None
        try:
            return {"result": await self._result(server, call, seconds)}
        except BaseException as error:
            failure = error.error_name if isinstance(error, StepError) else type(error).__name__
            raise
        finally:
            milliseconds = (perf_counter() - started) * 1000
            call.calls.add(McpCall(server.id, self._tool, milliseconds, failure))

    async def _result(self, server: McpServer, call: StepCall, seconds: float) -> dict[str, Any]:
        arguments = dict(call.input)

        async def use(session: McpSession) -> dict[str, Any]:
            tool = await session.find_tool(self._tool)
            if reasons := tool.mismatches(arguments):
                raise _wrong_arguments(self._tool, server, reasons)
            return await session.call_tool(self._tool, arguments)

        try:
            async with asyncio.timeout(seconds):
                result = await call.services.mcp.run(server, call.services.secrets, use)
        except TimeoutError:
            raise no_answer(server, seconds) from None
        if result.get("isError") is True:
            raise self._tool_error(server, result, call)
        return result

    def _tool_error(self, server: McpServer, result: dict[str, Any], call: StepCall) -> PermanentStepError:
        content = result.get("content")
        texts = [
            part["text"]
            for part in (content if isinstance(content, list) else ())
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        data = " ".join(texts).encode(errors="replace")
        text = call.services.secrets.masks.beginning(data, _MAX_TEXT) or "it gives no reason"
        return PermanentStepError(
            f"Tool {self._tool!r} of {server.name} failed: {text}",
            details={"connection": server.id, "tool": self._tool},
            error_name=_TOOL_ERROR,
        )


def _wrong_arguments(tool: str, server: McpServer, reasons: list[str]) -> PermanentStepError:
    return PermanentStepError(
        f"The arguments do not match the schema of tool {tool!r} of {server.name}: {'; '.join(reasons)}. "
        "Correct `inputMappings` or `literals`.",
        details={"connection": server.id, "tool": tool, "reasons": reasons},
    )
