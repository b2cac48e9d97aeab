"""An HTTP proxy that breaks responses on purpose."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.s3 import S3Store
from tests.support.moto import EndpointClients
from tests.support.server_threads import served


class Fault(StrEnum):
    ERROR_500 = "500"
    SLOW_DOWN = "503"
    DENIED = "403"
    RESET = "reset"
    SHORT_BODY = "short body"


@dataclass(frozen=True)
class Call:
    number: int
    method: str
    path: str


Plan = Callable[[Call], Fault | None]
_CODES = {Fault.ERROR_500: "InternalError", Fault.SLOW_DOWN: "SlowDown", Fault.DENIED: "AccessDenied"}


@contextmanager
def faulty_proxy(endpoint: str, plan: Plan) -> Iterator[tuple[str, list[Call]]]:
    """Run a proxy; yield its URL and the list of the calls that it received."""
    calls: list[Call] = []
    lock = threading.Lock()
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            with lock:
                call = Call(len(calls), self.command, self.path)
                calls.append(call)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = plan(call)
            if fault is Fault.RESET:
                self._reset()
            elif fault in _CODES:
                self._answer_error(fault)
            else:
                self._forward(body, cut=fault is Fault.SHORT_BODY)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def _reset(self) -> None:
            # Linger 0: close sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def _answer_error(self, fault: Fault) -> None:
            body = f"<Error><Code>{_CODES[fault]}</Code><Message>on purpose</Message></Error>".encode()
            self.send_response(int(fault))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _forward(self, body: bytes, *, cut: bool) -> None:
            upstream = http.client.HTTPConnection(target, timeout=30)
            upstream.request(self.command, self.path, body=body, headers=dict(self.headers))
            response = upstream.getresponse()
            data = response.read()
            self.send_response_only(response.status, response.reason)
            for name, value in response.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                    self.send_header(name, value)
            length = response.getheader("Content-Length") or str(len(data))
            self.send_header("Content-Length", length)
            self.end_headers()
            if cut and len(data) > 1:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            else:
                self.wfile.write(data)
            upstream.close()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", calls


@contextmanager
def s3_through_proxy(endpoint: str, plan: Plan) -> Iterator[tuple[S3Store, list[Call]]]:
    """Yield a store that calls S3 through the proxy and does not wait between its attempts, and the calls."""
    with faulty_proxy(endpoint, plan) as (url, calls):
        yield S3Store(EndpointClients(url), backoff=Backoff(sleep=lambda _: None)), calls
