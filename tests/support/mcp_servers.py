"""MCP servers for tests: the SDK's own in a process, and one that answers whatever a test wants."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from demo.processes import ManagedProcess, clean_environment, free_port, port_open, wait_until
from tests.support.server_threads import served

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
Answer = tuple[int, Json, bytes]
"""Status, headers and body of a response."""


class McpProcess:
    """The SDK's server in a process of its own, always at the same URL."""

    def __init__(self, folder: Path, kind: str = "http") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._folder = folder
        self._kind = kind
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start the server, again if it has ended, and wait until it answers."""
        self._starts += 1
        self.process = ManagedProcess(
            "mcp",
            [sys.executable, "-m", "tests.support.mcp_program", self._kind, str(self.port)],
            log=self._folder / f"mcp-{self._starts}.log",
            env=clean_environment({"PYTHONPATH": str(ROOT)}),
            cwd=ROOT,
        )
        self.process.start()
        wait_until(lambda: port_open(self.port), what="MCP server", processes=[self.process])

    def restart(self) -> None:
        """Start the server anew: it then knows none of its sessions."""
        self.process.stop()
        self.start()


@contextmanager
def running_mcp(folder: Path, kind: str = "http") -> Iterator[McpProcess]:
    """Run the SDK's server; ``kind`` is ``http`` (answers are streams) or ``json``."""
    server = McpProcess(folder, kind)
    try:
        yield server
    finally:
        server.process.stop()


class McpFake(ThreadingHTTPServer):
    """A server that answers each method as a test says, and the handshake as the protocol does.

    Attributes:
        requests: method and headers of each request, in order; GET and DELETE have those as methods.
        answers: method -> returns the response to a request.
        tools: what it lists, if ``answers`` has no ``tools/list``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, Json]] = []
        self.bodies: list[Json] = []
        self.answers: dict[str, Callable[[Json], Answer]] = {}
        self.tools: list[Json] = [{"name": "find", "inputSchema": {"type": "object"}}]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mcp"

    def methods(self) -> list[str]:
        """Return the methods of all requests."""
        return [method for method, _ in self.requests]

    def always(self, method: str, answer: Answer) -> None:
        """Set the response to a method."""
        self.answers[method] = lambda _: answer

    def respond(self, method: str, message: Json) -> Answer:
        """Return the response to a request."""
        if method in self.answers:
            return self.answers[method](message)
        if method == "initialize":
            identity = {"name": "fake", "version": "1"}
            version = message["params"]["protocolVersion"]
            return result_of(
                message,
                {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": identity},
                {"Mcp-Session-Id": f"session-{len(self.requests)}"},
            )
        if method == "tools/list":
            return result_of(message, {"tools": self.tools})
        if method == "tools/call":
            return result_of(message, {"content": [{"type": "text", "text": "found"}]})
        return (202, {}, b"") if "id" not in message else (404, {}, b"")


def result_of(message: Json, result: Any, headers: Json | None = None) -> Answer:
    """Return the response with a result."""
    return _json({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers)


def error_of(message: Json, code: int, text: str, status: int = 200) -> Answer:
    """Return the response with an error of JSON-RPC."""
    error = {"code": code, "message": text}
    return status, *_json({"jsonrpc": "2.0", "id": message["id"], "error": error})[1:]


def _json(document: Json, headers: Json | None = None) -> Answer:
    return 200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: McpFake

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        method = message.get("method", "")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((method, headers))
        self.server.bodies.append(message)
        self._send(*self.server.respond(method, message))

    def do_GET(self) -> None:
        self.server.requests.append((self.command, dict(self.headers)))
        self._send(405, {}, b"")

    do_DELETE = do_GET  # noqa: N815 - the library's name

    def _send(self, status: int, headers: Json, body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() in {"content-length", "transfer-encoding"} for name in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if "Content-Length" in headers:
            # The header announced a longer body: close the connection, so that it is cut.
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Do not write to standard error."""


@contextmanager
def running_mcp_fake() -> Iterator[McpFake]:
    """Run the fake until the end of the block."""
    server = McpFake()
    with served(server):
        yield server
