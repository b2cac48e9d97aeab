"""A small API whose responses a test defines, and which counts calls and concurrent calls."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


class Shop:
    """The state of the server; ``answer`` returns the response, by path and number of the call (from 1)."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.most_at_once = 0
        self.answer: Callable[[str, int], Answer] = lambda path, _: (200, {"path": path})
        self.url = ""
        self._open = 0
        self._lock = threading.Lock()

    def handle(self, path: str) -> Answer:
        """Answer one call."""
        with self._lock:
            self.calls[path] += 1
            number = self.calls[path]
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            return self.answer(path, number)
        finally:
            with self._lock:
                self._open -= 1


@contextmanager
def open_shop() -> Iterator[Shop]:
    """Run a shop on a free loopback port."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        # Keep-alive: ten thousand calls with a new connection each take five times as long.
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = shop.handle(self.path)
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the caller is gone

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # With the default of 5, a burst of calls loses some, which are only repeated after a timeout.
        request_queue_size = 1024

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # the caller is gone
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
