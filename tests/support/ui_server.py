"""The pages over made-up data: `python -m tests.support.ui_server` shows them without an Airflow.

What `ui_fixtures/` has is answered from there: `<path below /allma/api>.json`, or `<path>.<status>.json` for
an error. Items come from `FORKS`: http://127.0.0.1:8899/allma/ui?dag_id=orders&run_id=ended&allma_fork=enrich
"""

from __future__ import annotations

import json
import mimetypes
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support import ui_flows
from tests.support.ui_items import HOSTILE, FakeFork

PORT = 8899
STATIC = Path(__file__).parents[2] / "airflow_allma" / "server" / "static" / "ui"
FIXTURES = Path(__file__).parent / "ui_fixtures"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_BASE = FakeFork()
FORKS: Mapping[str, FakeFork] = {
    "ended": _BASE,
    "running": replace(_BASE, done=43_210),
    "memory": replace(_BASE, items=120, failed=5, mode="memory"),
    "clean": replace(_BASE, failed=0),
    "empty": replace(_BASE, items=0, failed=0),
    "two": replace(_BASE, branches=("enrich_user", "score_user")),
    "hostile": replace(_BASE, label=HOSTILE + "{index}", message=HOSTILE),
    "huge": replace(_BASE, huge=frozenset({4711})),
}
"""By run id."""
ERRORS: Mapping[str, tuple[int, str]] = {
    "unauthorized": (401, "Not authenticated"),
    "forbidden": (403, "Forbidden"),
    "deleted": (404, "The results of fork enrich were deleted from s3://bucket/runs/1."),
    "silent": (503, "The object store did not answer within 10 s. Try again later."),
}
"""Status and reason of every answer about a run."""


class UiServer(ThreadingHTTPServer):
    """A server of pages, fixtures and forks on the loopback interface.

    Attributes:
        changes: what was sent to Airflow's own API: method, path and JSON.
        refuse: status and detail of the next changes; None lets them through.
        refused_path: only changes with this in their path are refused.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.changes: list[tuple[str, str, Any]] = []
        self.requests: list[str] = []
        self.refuse: tuple[int, str] | None = None
        self.refused_path = ""
        self.forks = dict(FORKS)

    @property
    def url(self) -> str:
        """Root address, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UiServer

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        path, query = split.path, dict(parse_qsl(split.query))
        self.server.requests.append(self.path)
        if path == "/allma/ui":
            page = (STATIC / "page.html").read_bytes().replace(b"{version}", b"dev")
            self._send(200, page, "text/html; charset=utf-8", {"Content-Security-Policy": POLICY})
        elif path.startswith("/allma/static/dev/"):
            self._file(path.removeprefix("/allma/static/dev/"))
        elif path.startswith("/allma/api/"):
            self._api([unquote(part) for part in path.removeprefix("/allma/api/").split("/")], query)
        else:
            self._send(200, f"<title>Airflow</title>{path}".encode(), "text/html")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.changes.append((self.command, unquote(self.path), json.loads(body)))
        if self.server.refuse is not None and self.server.refused_path in self.path:
            status, detail = self.server.refuse
            self._json(status, {"detail": detail})
        else:
            self._json(200, {"task_instances": [], "total_entries": 8})

    do_PATCH = do_POST  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it
        pass

    def _file(self, path: str) -> None:
        file = (STATIC / path).resolve()
        if not file.is_relative_to(STATIC) or not file.is_file():
            self._json(404, {"detail": "Not found"})
            return
        kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
        self._send(200, file.read_bytes(), kind or "text/plain", {"Cache-Control": "no-cache"})

    def _api(self, parts: list[str], query: Mapping[str, str]) -> None:
        run_id = parts[3] if len(parts) > 3 else None
        if run_id in ERRORS:
            status, detail = ERRORS[run_id]
            self._json(status, {"detail": detail})
        elif len(parts) > 5 and parts[4] == "forks" and run_id in self.server.forks:
            self._fork(self.server.forks[run_id], parts, query)
        elif (found := self._flow(parts, query)) is not None:
            self._json(200, found)
        else:
            self._fixture("/".join(parts))

    def _flow(self, parts: list[str], query: Mapping[str, str]) -> Any:
        match parts:
            case ["flows"]:
                return ui_flows.flow_list(query)
            case ["dags", dag_id, "flow"]:
                return ui_flows.flow_page(dag_id)
            case ["dags", dag_id, "runs", run_id]:
                return ui_flows.run_page(dag_id, run_id, self.server.forks.get(run_id, _BASE).summary())
            case ["dags", dag_id, "runs", _, "steps", step_id]:
                return ui_flows.step_page(dag_id, step_id)
        return None

    def _fork(self, fork: FakeFork, parts: list[str], query: Mapping[str, str]) -> None:
        _, dag_id, _, run_id, _, name, *rest = parts
        if name != fork.name:
            self._json(404, {"detail": f"The flow has no fork {name}."})
        elif not rest:
            self._json(200, fork.summary())
        elif rest == ["items"]:
            self._json(200, fork.page(query))
        elif rest == ["rerun"]:
            self._json(200, fork.rerun(query["what"], query.get("kind"), query.get("index"), dag_id, run_id))
        elif rest == ["download"]:
            rows = (json.dumps({"itemIndex": index, "status": "failed"}) for index in fork.failures)
            headers = {"Content-Disposition": 'attachment; filename="enrich-failed.jsonl"'}
            self._send(200, "".join(f"{row}\n" for row in rows).encode(), "application/x-ndjson", headers)
        elif rest[0] == "items" and (item := fork.item(int(rest[1]))) is not None:
            self._json(200, item)
        else:
            self._json(404, {"detail": f"The fork has {fork.items:,} items: there is no item {rest[1]}."})

    def _fixture(self, path: str) -> None:
        file = (FIXTURES / f"{path}.json").resolve()
        if file.is_relative_to(FIXTURES) and file.is_file():
            self._send(200, file.read_bytes(), "application/json")
            return
        for error in sorted(FIXTURES.glob(f"{path}.[45]??.json")):
            self._send(int(error.suffixes[-2][1:]), error.read_bytes(), "application/json")
            return
        self._json(404, {"detail": f"No fixture {path}.json."})

    def _json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with UiServer(int(sys.argv[1]) if len(sys.argv) > 1 else PORT) as running:
        print(f"{running.url}/allma/ui?dag_id=orders&run_id=ended&allma_fork=enrich", flush=True)  # noqa: T201
        threading.Event().wait()
