"""A server on loopback whose files are as tests of downloads need them: large, cut, slow, redirected."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.server_threads import served

BLOCK = bytes(range(256)) * 256  # 64 KiB
TEXT = b"id,name\n1,Ada\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DownloadServer

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        name, _, argument = self.path.partition("?")[0].lstrip("/").partition("/")
        getattr(self, f"send_{name}", self.send_missing)(argument)

    do_POST = do_HEAD = do_GET  # noqa: N815 - the library looks them up by these names

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: bytes, *, length: int | None = None, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_missing(self, _: str) -> None:
        self.answer(b"there is no such file", status=404)

    def send_text(self, _: str) -> None:
        self.answer(TEXT, Content_Type="text/csv; charset=utf-8")

    def send_item(self, name: str) -> None:
        self.answer(f"item {name}".encode(), Content_Type="text/plain")

    def send_empty(self, _: str) -> None:
        self.answer(b"")

    def send_status(self, code: str) -> None:
        self.answer(b"said so", status=int(code))

    def send_flaky(self, name: str) -> None:
        """Answer the first request for a name with 503, later ones with the file."""
        again = sum(path == self.path for _, path, _ in self.server.requests) > 1
        self.answer(TEXT, status=200 if again else 503)

    def send_large(self, mebibytes: str) -> None:
        size = int(mebibytes) << 20
        self.answer(b"", length=size, Content_Type="application/x-large")
        self.send_blocks(size)

    def send_cut(self, mebibytes: str) -> None:
        """Announce a size, and end the connection at 90 % of it."""
        size = int(mebibytes) << 20
        self.answer(b"", length=size)
        self.send_blocks(size * 9 // 10)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send_stalled(self, _: str) -> None:
        """Send a part, then nothing more while the client waits."""
        self.answer(b"", length=1000)
        self.wfile.write(b"a part")
        self.wfile.flush()
        self.server.released.wait(20)
        self.close_connection = True

    def send_dripping(self, _: str) -> None:
        """Send a byte now and then, for as long as the client waits."""
        self.answer(b"", length=1 << 20)
        while not self.server.released.wait(0.05):
            self.wfile.write(b"x")
        self.close_connection = True

    def send_endless(self, _: str) -> None:
        """Send chunks without an announced size until the client has enough."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK))
        except OSError:
            self.close_connection = True

    def send_broken_chunks(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"400\r\nonly a part of it")
        self.close_connection = True

    def send_gzip(self, kind: str) -> None:
        body = gzip.compress(TEXT) + gzip.compress(TEXT)
        self.answer(body[:-9] if kind == "cut" else body, Content_Encoding="gzip")

    def send_bomb(self, _: str) -> None:
        self.answer(gzip.compress(bytes(32 << 20)), Content_Encoding="gzip")

    def send_brotli(self, _: str) -> None:
        self.answer(b"x", Content_Encoding="br")

    def send_checksum(self, kind: str) -> None:
        algorithm, _, truth = kind.partition("-")
        body = TEXT if truth == "right" else TEXT + b"!"
        if algorithm == "md5":
            value = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            self.answer(TEXT, Content_MD5=value)
        else:
            value = base64.b64encode(hashlib.sha256(body).digest()).decode()
            self.answer(TEXT, Repr_Digest=f"sha-256=:{value}:")

    def send_moved(self, target: str) -> None:
        self.answer(b"", status=302, Location=f"/{target}")

    def send_elsewhere(self, target: str) -> None:
        """Redirect to another origin: the same machine by another name."""
        port = self.server.server_address[1]
        self.answer(b"", status=302, Location=f"http://localhost:{port}/{target}")

    def send_blocks(self, size: int) -> None:
        try:
            while size > 0:
                self.wfile.write(BLOCK[:size])
                size -= len(BLOCK)
        except OSError:
            self.close_connection = True


class DownloadServer(ThreadingHTTPServer):
    """The server; ``requests`` has (method, path, headers) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that left: tests make them leave."""


@contextmanager
def running_downloads() -> Iterator[DownloadServer]:
    server = DownloadServer()
    with served(server):
        try:
            yield server
        finally:
            server.released.set()


@pytest.fixture
def downloads() -> Iterator[DownloadServer]:
    """A running server of files."""
    with running_downloads() as server:
        yield server


def wait_until(condition: Any, seconds: float = 10.0) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
