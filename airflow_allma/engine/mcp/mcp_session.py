"""A session with an MCP server, which all steps on one event loop share."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.engine.mcp.mcp_failures import SessionLostError, first_error, no_answer, repeated
from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.mcp.tool_catalog import McpTool, ToolCatalog, read_catalog
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

if TYPE_CHECKING:
    from airflow_allma.engine.mcp.mcp_client import McpClient

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "McpSession"]

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
"""Time limit of a call, if neither the step nor its connection sets one."""

_METHOD_NOT_FOUND: Final = -32601
_CLOSE_SECONDS: Final = 10.0


class McpSession:
    """A session that is open or being opened; its requests wait until it is open.

    It runs in a task of its own, as the SDK requires that the task that opened a session also closes it.

    Args:
        server: the server.
        secrets: mask what the server sends.

    Attributes:
        server: the server.
        is_over: whether no further request should be sent: it could not be opened, has ended, or the server
            has forgotten it.
        users: the number of steps that use it now.
    """

    def __init__(self, server: McpServer, secrets: Secrets) -> None:
        self.server = server
        self.is_over = False
        self.users = 0
        self._secrets = secrets
        # The limit of the handshake and the list, which steps share; a step limits its own call itself.
        self._seconds = server.timeout or DEFAULT_TIMEOUT_SECONDS
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[McpClient | StepError] = loop.create_future()
        self._listing: asyncio.Task[ToolCatalog | StepError] | None = None
        self._listed_at = 0.0
        # An empty context: the task must not use up the work budget of the step that came first.
        self._task = loop.create_task(self._run(), context=Context())

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its result, in the form of the protocol.

        Raises:
            SessionLostError: the server did nothing, as it no longer knows the session.
            StepError: the server cannot be reached, or rejects the request.
        """
        client = await self._client()
        try:
            return await client.call_tool(name, arguments)
        except SessionLostError:
            # Not closed at once: another server at the same URL may know the session and be busy with a call.
            self.is_over = True
            raise

    async def find_tool(self, name: str) -> McpTool:
        """Return a tool. If the server does not list all of its tools, it may have no schema.

        Raises:
            PermanentStepError: the server does not have it.
            StepError: as ``call_tool``.
        """
        asked_at = asyncio.get_running_loop().time()
        catalog = await self.catalog()
        if name not in catalog.tools and catalog.is_complete and self._listed_at < asked_at:
            # The tool may be newer than the list.
            catalog = await self.catalog(newer_than=asked_at)
        tool = catalog.tools.get(name)
        if tool is None and catalog.is_complete:
            raise catalog.unknown(name, self.server.name)
        return tool or McpTool(name)

    async def catalog(self, newer_than: float = 0.0) -> ToolCatalog:
        """Return the server's tools, from one request for all steps.

        Args:
            newer_than: a time of the event loop; a list that was requested earlier is requested again.

        Raises:
            StepError: as ``call_tool``.
        """
        listing = self._listing
        if listing is None or (listing.done() and (listing.cancelled() or self._listed_at < newer_than)):
            self._listed_at = asyncio.get_running_loop().time()
            listing = self._listing = asyncio.create_task(self._list(), context=Context())
        # A step that times out must not cancel the request that others wait for.
        catalog = await asyncio.shield(listing)
        if isinstance(catalog, StepError):
            if self._listing is listing:
                self._listing = None
            raise repeated(catalog)
        return catalog

    @property
    def is_closed(self) -> bool:
        """Whether the session is closed and its task has ended."""
        return self._task.done()

    def stop(self) -> None:
        """Close the session, without waiting for it."""
        self.is_over = True
        self._stop.set()

    async def close(self) -> None:
        """Close the session, and wait until it is."""
        self.stop()
        if self._listing is not None:
            self._listing.cancel()
        _, waiting = await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
        for task in waiting:
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSE_SECONDS)

    async def _client(self) -> McpClient:
        opened = await asyncio.shield(self._opened)
        if isinstance(opened, StepError):
            raise repeated(opened)
        return opened

    async def _list(self) -> ToolCatalog | StepError:
        seconds = self._seconds
        try:
            client = await self._client()
            async with asyncio.timeout(seconds):
                return await read_catalog(client.list_page)
        except TimeoutError:
            return no_answer(self.server, seconds)
        except SessionLostError as error:
            self.is_over = True
            return error
        except StepError as error:
            # Listing tools is optional in the protocol.
            if error.details.get("code") == _METHOD_NOT_FOUND:
                return ToolCatalog({}, is_complete=False)
            return error

    async def _run(self) -> None:
        failure: StepError | None = None
        try:
            open_client = await asyncio.to_thread(_import_client)
            async with open_client(self.server, self._secrets, self.stop) as client:
                failure = await self._begin(client)
                if failure is None:
                    self._opened.set_result(client)
                    await self._stop.wait()
        except ImportError:
            failure = PermanentStepError(
                "An MCP_CALL step needs the package `mcp`, which is not installed where it runs. Install "
                "airflow-allma[mcp] on the workers."
            )
        except Exception as error:  # noqa: BLE001 - a group of errors of the SDK
            failure = failure or self._failure_of(first_error(error))
        finally:
            self.is_over = True
            if not self._opened.done():
                self._opened.set_result(failure or self._failure_of(None))

    async def _begin(self, client: McpClient) -> StepError | None:
        seconds = self._seconds
        try:
            async with asyncio.timeout(seconds):
                await client.initialize()
        except TimeoutError:
            return no_answer(self.server, seconds)
        except StepError as error:
            return error
        return None

    def _failure_of(self, error: BaseException | None) -> StepError:
        details = {"connection": self.server.id}
        if isinstance(error, StepError):
            return error
        if self.server.command and isinstance(error, OSError | ValueError):
            return PermanentStepError(
                f"{self.server.command[0]!r} cannot be started ({type(error).__name__}), which is "
                f"extra.command of connection {self.server.id!r}. It must be a program on the worker.",
                details=details,
            )
        reason = type(error).__name__ if error is not None else "it was closed"
        return TransientStepError(
            f"No session with {self.server.name} ({self.server.shown_url}): {reason}.", details=details
        )


def _import_client() -> Callable[..., Any]:
    module = importlib.import_module("airflow_allma.engine.mcp.mcp_client")
    opener: Callable[..., Any] = module.open_client
    return opener
