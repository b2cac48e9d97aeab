"""A small client of Airflow's REST API (v2), signed in through SimpleAuthManager."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

FINISHED = frozenset({"success", "failed"})
PAGE = 500
POLL_SECONDS = 0.2
TRIES = 4

T = TypeVar("T")


class AirflowApiError(RuntimeError):
    """Airflow's API refused a call, or what was waited for did not come."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, 0 when there was no answer."""


@dataclass(frozen=True)
class TaskContext:
    """One task instance of a run."""

    task_id: str
    map_index: int
    """-1 for a task that is not mapped."""
    state: str | None
    try_number: int
    label: str | None
    """What the UI shows in place of the map index."""
    display_name: str
    pid: int | None
    duration: float | None
    """Seconds."""
    raw: dict[str, Any]
    """The whole answer of the API."""

    @classmethod
    def of(cls, raw: dict[str, Any]) -> TaskContext:
        """From the API's form."""
        return cls(
            task_id=raw["task_id"],
            map_index=raw["map_index"],
            state=raw["state"],
            try_number=raw["try_number"],
            label=raw["rendered_map_index"],
            display_name=raw["task_display_name"],
            pid=raw["pid"],
            duration=raw["duration"],
            raw=raw,
        )


class AirflowClient:
    """Calls to one Airflow. Every method that waits raises AirflowApiError when its seconds are over."""

    def __init__(
        self, base_url: str, user: str, password: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.base_url = base_url
        self._credentials = {"username": user, "password": password}
        self._token = ""
        self._http = httpx.Client(base_url=base_url, timeout=60, trust_env=False, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, *, body: Any = None, **query: Any) -> Any:
        """One call of `/api/v2/PATH`; the decoded answer.

        Raises:
            AirflowApiError: the answer is not a success.
        """
        answer = self._send(method, path, body, query)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._token = ""
            answer = self._send(method, path, body, query)
        for tries in range(1, TRIES):
            if not _was_rolled_back(answer):
                break
            time.sleep(tries * POLL_SECONDS)
            answer = self._send(method, path, body, query)
        if not answer.is_success:
            raise AirflowApiError(
                f"{method} {path}: {answer.status_code} {answer.text[:2000]}", answer.status_code
            )
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, body: Any, query: dict[str, Any]) -> httpx.Response:
        if not self._token:
            self._token = self._sign_in()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        return self._http.request(method, f"/api/v2/{path}", json=body, params=query, headers=headers)

    def _sign_in(self) -> str:
        answer = self._http.post("/auth/token", json=self._credentials)
        if not answer.is_success:
            raise AirflowApiError(
                f"Signing in failed: {answer.status_code} {answer.text[:2000]}", answer.status_code
            )
        token: str = answer.json()["access_token"]
        return token

    def _pages(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            answer = self.call("GET", path, limit=PAGE, offset=offset, **query)
            rows = answer[key]
            yield from rows
            offset += len(rows)
            if not rows or offset >= answer["total_entries"]:
                return

    # the instance

    def health(self) -> dict[str, str | None] | None:
        """The status of each component by name ("healthy" when it is); None while nobody answers."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=5)
        except httpx.TransportError:
            return None
        if not answer.is_success:
            return None
        return {name: part.get("status") for name, part in answer.json().items() if part}

    def import_errors(self) -> list[dict[str, Any]]:
        """Files that could not be read, as the UI lists them."""
        return list(self._pages("importErrors", "import_errors"))

    # Dags

    def dags(self) -> list[dict[str, Any]]:
        """Every Dag that is not stale."""
        return list(self._pages("dags", "dags"))

    def dag_details(self, dag_id: str) -> dict[str, Any]:
        """All that the API tells of one Dag."""
        details: dict[str, Any] = self.call("GET", f"dags/{quote(dag_id)}/details")
        return details

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """The tasks of a Dag's latest version."""
        answer: dict[str, Any] = self.call("GET", f"dags/{quote(dag_id)}/tasks")
        return list(answer["tasks"])

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60.0, parses: int = 0) -> dict[str, Any]:
        """Wait until the Dag is there, and was parsed `parses` more times; its details.

        `parses=2` is sure to have seen what was written to its files before the call: the first of them
        may have begun earlier.
        """
        seen: set[str | None] = set()

        def found() -> dict[str, Any] | None:
            details = self._dag_or_none(dag_id)
            if details is None or details.get("is_stale"):
                return None
            seen.add(details["last_parsed_time"])
            return details if len(seen) > parses else None

        return self._wait(found, timeout, lambda: f"Dag {dag_id} did not come: {self._why_no_dag()}")

    def wait_until_gone(self, dag_id: str, *, timeout: float = 60.0) -> None:
        """Wait until the Dag is stale or deleted."""

        def gone() -> bool:
            details = self._dag_or_none(dag_id)
            return details is None or bool(details.get("is_stale"))

        self._wait(gone, timeout, lambda: f"Dag {dag_id} is still there")

    def _dag_or_none(self, dag_id: str) -> dict[str, Any] | None:
        try:
            return self.dag_details(dag_id)
        except AirflowApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return None

    def _why_no_dag(self) -> str:
        errors = [f"{error['filename']}:\n{error['stack_trace']}" for error in self.import_errors()]
        known = ", ".join(sorted(dag["dag_id"] for dag in self.dags())) or "none"
        return "\n".join([*errors, f"Dags that are there: {known}."])

    # runs

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run with `conf` as its payload; its run id.

        Raises:
            AirflowApiError: Airflow refused it; `status` 400 when `conf` is not what the params ask for.
        """
        body = {"conf": conf or {}, "logical_date": None, "dag_run_id": run_id}
        answer: dict[str, Any] = self.call("POST", f"dags/{quote(dag_id)}/dagRuns", body=body)
        return str(answer["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run as the API shows it."""
        answer: dict[str, Any] = self.call("GET", self._run_path(dag_id, run_id))
        return answer

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a Dag."""
        return list(self._pages(f"dags/{quote(dag_id)}/dagRuns", "dag_runs"))

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120.0) -> str:
        """Wait until the run is over; "success" or "failed"."""

        def over() -> str | None:
            state = str(self.run(dag_id, run_id)["state"])
            return state if state in FINISHED else None

        return self._wait(over, timeout, lambda: self._why_not_over(dag_id, run_id))

    def _why_not_over(self, dag_id: str, run_id: str) -> str:
        tasks = [f"  {t.task_id}[{t.map_index}] {t.state}" for t in self.task_instances(dag_id, run_id)]
        return "\n".join([f"Run {run_id} of {dag_id} is not over", *tasks])

    def _run_path(self, dag_id: str, run_id: str) -> str:
        return f"dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"

    # task instances

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskContext]:
        """Every task instance of a run, mapped ones too, by task id and map index."""
        rows = self._pages(f"{self._run_path(dag_id, run_id)}/taskInstances", "task_instances", order_by="id")
        return sorted((TaskContext.of(row) for row in rows), key=lambda task: (task.task_id, task.map_index))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int = -1,
        *,
        states: Sequence[str] = ("running",),
        timeout: float = 60.0,
    ) -> TaskContext:
        """Wait until one task instance is in one of `states`."""

        def reached() -> TaskContext | None:
            return next(
                (
                    task
                    for task in self.task_instances(dag_id, run_id)
                    if (task.task_id, task.map_index) == (task_id, map_index) and task.state in states
                ),
                None,
            )

        return self._wait(reached, timeout, lambda: self._why_not_over(dag_id, run_id))

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """The JSON value that a task instance pushed.

        Raises:
            AirflowApiError: there is none (`status` 404).
        """
        task = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}"
        entry = self.call("GET", f"{task}/xcomEntries/{quote(key, safe='')}", map_index=map_index)
        return entry["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[str]:
        """The keys under which a task instance pushed something, as the UI's XCom tab shows them."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries"
        rows = self._pages(path, "xcom_entries", map_index=map_index)
        return sorted(row["key"] for row in rows)

    def logs(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> str:
        """A task instance's log as text, a line an event; of its last try if none is given."""
        if try_number is None:
            rows = self.task_instances(dag_id, run_id)
            try_number = next(t.try_number for t in rows if (t.task_id, t.map_index) == (task_id, map_index))
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        events = self.call("GET", path, map_index=map_index, full_content=True)["content"]
        return "\n".join(_log_line(event) for event in events)

    # changing what was run

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str],
        map_indexes: Sequence[int] | None = None,
        *,
        only_failed: bool = False,
        downstream: bool = False,
    ) -> list[TaskContext]:
        """Clear task instances so that they run again; those that were cleared.

        `map_indexes` narrows every task of `task_ids` to these; None clears all of each.
        """
        targets: list[Any] = list(task_ids)
        if map_indexes is not None:
            targets = [[task_id, index] for task_id in task_ids for index in map_indexes]
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": targets,
            "only_failed": only_failed,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        answer = self.call("POST", f"dags/{quote(dag_id)}/clearTaskInstances", body=body)
        return [TaskContext.of({"pid": None, "duration": None} | row) for row in answer["task_instances"]]

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance "success", "failed" or "skipped" by hand."""
        where = f"/{map_index}" if map_index >= 0 else ""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}{where}"
        self.call("PATCH", path, body={"new_state": state})

    def mark_success(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Mark a task instance successful by hand."""
        self.set_state(dag_id, run_id, task_id, "success", map_index)

    def _wait(self, look: Callable[[], T | None], timeout: float, why: Callable[[], str]) -> T:
        end = time.monotonic() + timeout
        while True:
            if found := look():
                return found
            if time.monotonic() > end:
                raise AirflowApiError(f"After {timeout:.0f} s, at {datetime.now(UTC):%H:%M:%S} UTC: {why()}")
            time.sleep(POLL_SECONDS)


def _was_rolled_back(answer: httpx.Response) -> bool:
    """Whether nothing was done, because the database ended one of two calls that locked each other out."""
    return answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR and '"Database error"' in answer.text


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    details = [f"{name}={event[name]}" for name in ("error_detail", "exc_info") if event.get(name)]
    head = [str(event.get(name) or "") for name in ("timestamp", "level", "event")]
    return " ".join([*head, *details])
