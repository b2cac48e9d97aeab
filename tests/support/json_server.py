"""A server on loopback that records requests and answers with JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.server_threads import served

Reply = tuple[int, dict[str, str], Any]


class JsonServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        requests: path, headers and body of each request.
        replies: status, headers and JSON of the responses, one after the other; the last one stays.
    """

    daemon_threads = True

    def __init__(self, *replies: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.replies = list(replies)
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bodies(self) -> list[Any]:
        """Return the bodies of all requests as JSON values."""
        return [json.loads(body) for _, _, body in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JsonServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            replies = self.server.replies
            status, headers, value = replies.pop(0) if len(replies) > 1 else replies[0]
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, one in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, one)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Do not write to standard error."""


@contextmanager
def json_server(*replies: Reply) -> Iterator[JsonServer]:
    """Run the server until the end of the block."""
    server = JsonServer(*replies)
    with served(server):
        yield server
