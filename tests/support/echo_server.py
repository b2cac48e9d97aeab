"""An API that echoes in its error pages what it was sent, in all forms that pages have."""

from __future__ import annotations

import base64
import html
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests.support.server_threads import served

# As often as the engine tries a step.
_FAILURES = {"flaky": 1, "stubborn": 5}


class EchoServer:
    """The state of the server.

    The first segment of a path says how it answers: ``ok`` with 200; ``fail`` with the status in the second
    segment; ``flaky`` with that status once for each path, and ``stubborn`` five times, and then with 200;
    ``away`` redirects to another host.

    Attributes:
        url: its address.
        requests: path and headers of each request, in order.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, target: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of the answer."""
        path = urlsplit(target).path
        with self._lock:
            self.requests.append((target, headers))
            self._counts[path] += 1
            number = self._counts[path]
        kind, _, rest = path.lstrip("/").partition("/")
        if kind == "away":
            return 302, b"", {"Location": f"{self.url.replace('127.0.0.1', 'localhost')}/ok/away"}
        if kind == "fail" or number <= _FAILURES.get(kind, 0):
            return int(rest.partition("/")[0]), self._page(target, headers), {}
        return 200, json.dumps({"path": path, "seen": len(headers)}).encode(), {}

    @staticmethod
    def _page(target: str, headers: dict[str, str]) -> bytes:
        values = [target, unquote(target), *headers.values()]
        values += [base64.b64encode(value.encode()).decode() for value in headers.values()]
        pages = [
            f"<p>{html.escape(' '.join(values))}</p>",
            json.dumps({"headers": headers, "url": target}),
            quote(" ".join(values)),
            "." * 300,
            " ".join(values),
        ]
        return "\n".join(pages).encode()


@contextmanager
def open_echo_server() -> Iterator[EchoServer]:
    """Run the server on a free loopback port."""
    echo = EchoServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body, headers = echo.answer(self.path, dict(self.headers))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    echo.url = f"http://127.0.0.1:{server.server_address[1]}"
    with served(server):
        yield echo
