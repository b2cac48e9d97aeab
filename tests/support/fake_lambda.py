"""AWS Lambda on loopback: functions by name, and the errors that moto does not have."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.server_threads import served

Json = dict[str, Any]


class FakeLambda(ThreadingHTTPServer):
    """A server that answers the API operation Invoke.

    Attributes:
        requests: (function, query, headers, payload) of each call.
        functions: name -> status, headers and body of the response; a name that is not here returns
            ``{"echo": payload}``, and ``missing`` does not exist.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, Json, bytes]] = []
        self.functions: dict[str, list[tuple[int, Json, bytes]]] = {
            "missing": [
                _error(404, "ResourceNotFoundException", "Function not found: arn:...:function:missing")
            ]
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, name: str, *responses: tuple[int, Json, bytes]) -> None:
        """Set what a function answers, one response after the other; the last one stays."""
        self.functions[name] = list(responses)

    def payloads(self, name: str) -> list[Any]:
        """Return the payloads of all calls of a function."""
        return [json.loads(payload) for function, _, _, payload in self.requests if function == name]


def _error(status: int, code: str, message: str, **headers: str) -> tuple[int, Json, bytes]:
    return status, {"x-amzn-ErrorType": code, **headers}, json.dumps({"Message": message}).encode()


def service_error(status: int, code: str, message: str = "no") -> tuple[int, Json, bytes]:
    """Return the response of a call that Lambda itself rejects."""
    return _error(status, code, message)


def function_error(body: Any, kind: str = "Unhandled") -> tuple[int, Json, bytes]:
    """Return the response of a function that raised an error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return 200, {"X-Amz-Function-Error": kind}, content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeLambda

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path.split("/")[-2])
        payload = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((name, parts.query, dict(self.headers), payload))
        responses = self.server.functions.get(name.rpartition("function:")[2])
        if responses:
            status, headers, body = responses[0] if len(responses) == 1 else responses.pop(0)
        elif self.headers.get("x-amz-invocation-type") == "Event":
            status, headers, body = 202, {}, b""
        else:
            status, headers, body = 200, {}, json.dumps({"echo": json.loads(payload)}).encode()
        if self.headers.get("x-amz-log-type") == "Tail":
            tail = base64.b64encode(b"START\nhello \x1b[1m from the function\nEND\n").decode()
            headers = {**headers, "X-Amz-Log-Result": tail}
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Do not write to standard error."""


@contextmanager
def running_lambda() -> Iterator[FakeLambda]:
    """Run the server until the end of the block."""
    server = FakeLambda()
    with served(server):
        yield server


@pytest.fixture
def fake_lambda() -> Iterator[FakeLambda]:
    with running_lambda() as server:
        yield server
