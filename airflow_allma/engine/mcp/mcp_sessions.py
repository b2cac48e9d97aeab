"""The open sessions with MCP servers: one for each server and event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_allma.engine.mcp.mcp_server import McpServer
    from airflow_allma.engine.mcp.mcp_session import McpSession
    from airflow_allma.engine.secrets import Secrets

__all__ = ["McpSessions"]

_T = TypeVar("_T")
_Key = tuple[str, str, tuple[str, ...]]


@dataclass(slots=True)
class _Sessions:
    """The sessions of one event loop: by server, and those that were replaced and are still in use."""

    current: dict[_Key, McpSession] = field(default_factory=dict)
    retired: list[McpSession] = field(default_factory=list)


class McpSessions:
    """Opens sessions when steps need them, and shares them. The SDK is imported only then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sessions] = WeakKeyDictionary()

    async def run(
        self, server: McpServer, secrets: Secrets, work: Callable[[McpSession], Awaitable[_T]]
    ) -> _T:
        """Run some work in a session; if the server no longer knows it, run the work once more in a new one.

        Args:
            server: the server.
            secrets: mask what the server sends.
            work: uses the session.

        Raises:
            StepError: what the work raises.
        """
        from airflow_allma.engine.mcp.mcp_failures import SessionLostError

        try:
            return await self._in_session(server, secrets, work)
        except SessionLostError:
            return await self._in_session(server, secrets, work)

    async def _in_session(
        self, server: McpServer, secrets: Secrets, work: Callable[[McpSession], Awaitable[_T]]
    ) -> _T:
        session = self._session(server, secrets)
        session.users += 1
        try:
            return await work(session)
        finally:
            session.users -= 1
            if not session.users and self._sessions().current.get(_key(server)) is not session:
                session.stop()

    def _sessions(self) -> _Sessions:
        with self._lock:
            return self._of_loop.setdefault(asyncio.get_running_loop(), _Sessions())

    def _session(self, server: McpServer, secrets: Secrets) -> McpSession:
        from airflow_allma.engine.mcp.mcp_session import McpSession

        sessions, key = self._sessions(), _key(server)
        known = sessions.current.get(key)
        if known is not None and not known.is_over and known.server == server:
            return known
        if known is not None:
            # Its credentials have changed, or the session is over. Its last user closes it.
            sessions.retired = [one for one in (*sessions.retired, known) if not one.is_closed]
            if not known.users:
                known.stop()
        session = sessions.current[key] = McpSession(server, secrets)
        return session

    async def close(self) -> None:
        """Close the sessions of the running event loop. The object can be used again afterwards."""
        with self._lock:
            sessions = self._of_loop.pop(asyncio.get_running_loop(), _Sessions())
        every = (*sessions.current.values(), *sessions.retired)
        await asyncio.gather(*(session.close() for session in every))


def _key(server: McpServer) -> _Key:
    return server.id, server.url, server.command
