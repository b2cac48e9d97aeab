"""A fork over a file of users, some of whom fail for three reasons, until the API is repaired."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.airflow.flows import Json, branch, compose, flow, fork

FORK = "enrich"


class UserApi(ThreadingHTTPServer):
    """Profiles and orders of users.

    Args:
        items: number of users.
        failed: how many of them fail, spread over all, in turn for one of three reasons: 503 of the profile,
            404 of the orders, a profile without its plan.

    Attributes:
        calls: how often each path was asked for.
        is_repaired: whether all users succeed from now on.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, items: int, failed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        step = max(1, items // max(1, failed))
        self.failing = {n * step + min(7, step - 1): n % 3 for n in range(failed)}
        self.items = items
        self.calls: Counter[str] = Counter()
        self.is_repaired = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Root address, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def users_asked(self) -> set[int]:
        """The users whose profiles were asked for since `calls` was emptied."""
        return {int(path.rpartition("-")[2]) for path in self.calls if path.startswith("/profiles")}

    def answer(self, path: str) -> tuple[int, Json]:
        """Return status and body of one request."""
        with self.lock:
            self.calls[path] += 1
        kind = None if self.is_repaired else self.failing.get(int(path.rpartition("-")[2]))
        if path.startswith("/profiles"):
            return (503, {}) if kind == 0 else (200, {} if kind == 2 else {"plan": "gold"})
        return (404, {}) if kind == 1 else (200, {"orders": [1, 2, 3]})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UserApi

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path)
        encoded = json.dumps(body).encode()
        # Headers and body in one packet: two would wait for each other.
        head = (
            f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n"
        )
        self.wfile.write(head.encode() + encoded)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it
        pass


@contextmanager
def user_api(items: int, failed: int) -> Iterator[UserApi]:
    """Serve the users on the loopback interface."""
    with UserApi(items, failed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def write_users(file: Path, items: int) -> Json:
    """Write one line for each user and return the pointer to the file."""
    rows = (
        {"userId": f"u-{n:07d}", "region": f"eu-{n % 3}", "email": f"user{n}@example.com"}
        for n in range(items)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"bucket": "file://", "key": str(file).lstrip("/")}


def enrichment_flow(
    flow_id: str, url: str, location: str, *, chunk_bytes: int, in_memory: bool = False
) -> Json:
    """Return a flow that enriches the users of `users` (a pointer, or a list), and fails if one fails."""
    user = "{{currentItem.userId}}"
    profile = {
        **_call(f"{url}/profiles/{user}", to="get_orders"),
        "outputValidation": {"requiredFields": ["$.data.plan"]},
    }
    return flow(
        flow_id,
        {
            FORK: fork(
                branch("get_profile", "enrich_user"),
                items="$.initialContextData.users",
                to="summarize",
                itemLabelPath="$.userId",
                displayName="Enrich users",
                maxConcurrency=16,
            ),
            "get_profile": profile,
            "get_orders": _call(f"{url}/orders/{user}", to="merge"),
            "merge": compose(
                {
                    "user": "$.currentItem",
                    "plan": "$.steps_output.get_profile.data.plan",
                    "orders": "$.steps_output.get_orders.data.orders",
                }
            ),
            "summarize": compose({"users": "$.steps_output.enrich.aggregatedData"}),
        },
        name="Enrich users",
        enableExecutionLogs=True,
        airflow={
            "chunkBytes": chunk_bytes,
            "offloadLocation": location,
            "maxInMemoryItems": 1000 if in_memory else 1,
        },
    )


def _call(url: str, to: str) -> Json:
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": url},
        "defaultNextStepInstanceId": to,
    }
