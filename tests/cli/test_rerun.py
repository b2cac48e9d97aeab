"""`airflow-allma rerun`, against a server that records what it is asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.cli import run_cli

PLAN = {
    "items": 3,
    "sentence": "The 3 failed items run again, in 1 chunk.",
    "others": "All good items keep \x1b[31mtheir results.",
    "replaced": "2 other items were selected.",
    "clear": {"dry_run": False, "task_ids": [["f.chunk", 0]]},
    "selection": {"path": "dags/d/xcomEntries/allma_rerun", "method": "PATCH", "body": {"value": "{}"}},
    "undo": {"path": "dags/d/xcomEntries/allma_rerun", "method": "PATCH", "body": {"value": "void"}},
    "command": "",
    "blocked": None,
}


class Recorder:
    """What the server was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.plan: dict[str, Any] = PLAN
        self.refused = ""
        self.status = 403

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if self.refused and self.refused in path:
            return self.status, {"detail": "Forbidden"}
        if "/allma/api/" in path:
            return 200, self.plan
        return 200, {"total_entries": 4} if method == "POST" else {}


@pytest.fixture
def server(monkeypatch):
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            recorder.asked.append((self.command, self.path, json.loads(data) if data else None))
            assert self.headers["Authorization"] == "Bearer secret"
            status, answer = recorder.answer(self.command, self.path)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("AIRFLOW_API_URL", f"http://127.0.0.1:{http.server_port}/airflow")
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "secret")
    yield recorder
    http.shutdown()
    thread.join()
    http.server_close()


RUN = "manual/2026 #1"
ROUTE = "/airflow/allma/api/dags/d/runs/manual%2F2026%20%231/forks/f/rerun"


def test_the_selection_is_written_before_the_chunks_are_cleared(server):
    ran = run_cli("rerun", "--fork", "f", "--kind", "0123456789ab", "d", RUN)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "The 3 failed items run again, in 1 chunk. All good items keep \\x1b[31mtheir results. "
        "2 other items were selected.\n"
        "4 task instances cleared.\n"
    )
    assert server.asked == [
        ("GET", f"{ROUTE}?what=kind&kind=0123456789ab", None),
        ("PATCH", "/airflow/api/v2/dags/d/xcomEntries/allma_rerun", {"value": "{}"}),
        ("POST", "/airflow/api/v2/dags/d/clearTaskInstances", PLAN["clear"]),
    ]


@pytest.mark.parametrize(
    ("options", "query"), [((), "what=failed"), (("--index", "4711"), "what=item&index=4711")]
)
def test_all_that_failed_or_one_item_and_a_dry_run_changes_nothing(server, options, query):
    server.plan = {**PLAN, "selection": None, "undo": None}
    assert run_cli("rerun", "--dry-run", "--fork", "f", *options, "d", RUN).code == 0
    assert server.asked == [("GET", f"{ROUTE}?{query}", None)]
    assert run_cli("rerun", "--fork", "f", *options, "d", RUN).code == 0
    assert [method for method, *_ in server.asked] == ["GET", "GET", "POST"]


def test_what_is_blocked_or_refused_is_said_and_nothing_is_cleared(server):
    server.plan = {**PLAN, "blocked": "The run is running: items can run again when it has ended."}
    ran = run_cli("rerun", "--fork", "f", "d", RUN)
    assert (ran.code, ran.err) == (1, "error: The run is running: items can run again when it has ended.\n")
    assert not ran.out
    server.plan, server.refused = PLAN, "xcomEntries"
    ran = run_cli("rerun", "--fork", "f", "--index", "1", "d", RUN)
    assert ran.code == 1
    assert "403 from http" in ran.err
    assert "Forbidden" in ran.err
    assert [method for method, *_ in server.asked] == ["GET", "GET", "PATCH"]


@pytest.mark.parametrize("status", [403, 409, 500])
def test_a_refused_clear_makes_the_selection_void_again(server, status):
    server.refused, server.status = "clearTaskInstances", status
    ran = run_cli("rerun", "--fork", "f", "--index", "1", "d", RUN)
    assert ran.code == 1
    assert ran.err.endswith("clearTaskInstances: Forbidden\n")
    path = "/airflow/api/v2/dags/d/xcomEntries/allma_rerun"
    assert [entry for entry in server.asked if entry[0] == "PATCH"] == [
        ("PATCH", path, {"value": "{}"}),
        ("PATCH", path, {"value": "void"}),
    ]
    assert server.asked[-1][0] == "PATCH"


def test_a_selection_stays_and_is_named_if_the_tasks_may_have_been_cleared(server):
    server.refused, server.status = "clearTaskInstances", 504
    ran = run_cli("rerun", "--fork", "f", "--index", "1", "d", RUN)
    assert ran.code == 1
    assert "504 from" in ran.err
    assert "delete the XCom allma_rerun of the fork's chunks task." in ran.err
    assert [method for method, *_ in server.asked] == ["GET", "PATCH", "POST"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "a", "--index", "1"), "Pass --kind or --index, not both"),
        (("--url", "localhost"), "Give the address of Airflow's API server"),
    ],
)
def test_wrong_usage_exits_with_2(server, arguments, message):
    ran = run_cli("rerun", "--fork", "f", *arguments, "d", RUN)
    assert ran.code == 2
    assert message in ran.err
    assert server.asked == []
