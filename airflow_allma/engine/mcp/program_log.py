"""Standard error of programs that are MCP servers: lines for the log, and for the error of one that ends."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TextIO

from airflow_allma.engine.mcp.mcp_failures import MAX_SHOWN
from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.secret_masks import SecretMasks

__all__ = ["MAX_LOGGED", "ProgramLog", "open_program_log"]

MAX_LOGGED: Final = 100
"""Number of lines that are logged at level INFO; later ones are logged at level DEBUG."""

_LAST_LINES: Final = 5
_LOG: Final = logging.getLogger("airflow_allma.engine")


class ProgramLog(asyncio.Protocol):
    """Logs the lines of a program, and keeps the last ones. Long lines are cut; secrets are masked.

    Args:
        server: the program.
        masks: mask what it writes.
    """

    def __init__(self, server: McpServer, masks: SecretMasks) -> None:
        self._server = server
        self._masks = masks
        self._line = bytearray()
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._logged = 0
        self._end = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes, which can end within a line."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            self._end_line()
        self._add(rest)

    def connection_lost(self, _: Exception | None) -> None:
        """Take the end: the program has ended, or nothing is read any more."""
        self._end_line()
        self._end.set()

    async def ended(self, seconds: float) -> None:
        """Wait until all is read; at most some seconds, as another process can keep the pipe open."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), seconds)

    def last_lines(self) -> list[str]:
        """Return the last lines that are not empty, at most five."""
        return [self._shown(line) for line in self._last]

    def _add(self, piece: bytes) -> None:
        # One byte more than is shown: it tells that the line was cut, perhaps within a secret.
        limit = 4 * (4 * MAX_SHOWN + self._masks.longest) + 1
        self._line += piece[: max(0, limit - len(self._line))]

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if not line.strip(b"\0 \t\r\n"):
            return
        self._last.append(line)
        level = logging.INFO if self._logged < MAX_LOGGED else logging.DEBUG
        self._logged += 1
        if _LOG.isEnabledFor(level):
            _LOG.log(level, "%s (standard error of %s)", self._shown(line), self._server.name)
        if self._logged == MAX_LOGGED:
            _LOG.info("Further lines are logged at level DEBUG (standard error of %s)", self._server.name)

    def _shown(self, line: bytes) -> str:
        return self._masks.beginning(line, MAX_SHOWN)


@asynccontextmanager
async def open_program_log(server: McpServer, masks: SecretMasks) -> AsyncIterator[tuple[ProgramLog, TextIO]]:
    """Return the log of a program, and the file that becomes its standard error.

    The caller closes the file when the program has it: then the log ends with the program.

    Args:
        server: the program.
        masks: mask what it writes.
    """
    # Not the task's own standard error, which can be an object that no other process can write to.
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as file, os.fdopen(reading, "rb", buffering=0) as source:
        transport, log = await asyncio.get_running_loop().connect_read_pipe(
            lambda: ProgramLog(server, masks), source
        )
        try:
            yield log, file
        finally:
            transport.close()
