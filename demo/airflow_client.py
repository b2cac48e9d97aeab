"""A small client of Airflow's REST API (v2), signed in through SimpleAuthManager."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

FINISHED = frozenset({"success", "failed"})
PAGE = 500
POLL_SECONDS = 0.2
MAX_ATTEMPTS = 4

T = TypeVar("T")


class AirflowApiError(RuntimeError):
    """Airflow's API refused a call, or an awaited state was not reached in time."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 if the error is not an HTTP response."""


@dataclass(frozen=True)
class TaskInstance:
    """One task instance of a run."""

    task_id: str
    map_index: int
    """-1 for a task that is not mapped."""
    state: str | None
    try_number: int
    label: str | None
    """What the UI shows instead of the map index."""
    display_name: str
    pid: int | None
    duration: float | None
    """Seconds."""
    raw: dict[str, Any]
    """The task instance as the API returned it."""

    @classmethod
    def from_api(cls, raw: dict[str, Any]) -> TaskInstance:
        """Create one from an object of the API."""
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
    """A client of one Airflow. Every method that waits raises AirflowApiError on timeout."""

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

    def call(self, method: str, path: str, *, body: Any = None, api: str = "api/v2", **query: Any) -> Any:
        """Call `/api/v2/PATH`, or a path of another API, and return the decoded response.

        Raises:
            AirflowApiError: the response is not a success.
        """
        response = self._send(method, f"/{api}/{path}", body, query)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._token = ""
            response = self._send(method, f"/{api}/{path}", body, query)
        for attempt in range(1, MAX_ATTEMPTS):
            if not _was_rolled_back(response):
                break
            time.sleep(attempt * POLL_SECONDS)
            response = self._send(method, f"/{api}/{path}", body, query)
        if not response.is_success:
            raise AirflowApiError(
                f"{method} {path}: {response.status_code} {response.text[:2000]}", response.status_code
            )
        return response.json() if response.content else None

    def _send(self, method: str, path: str, body: Any, query: dict[str, Any]) -> httpx.Response:
        if not self._token:
            self._token = self._sign_in()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        return self._http.request(method, path, json=body, params=query, headers=headers)

    def _sign_in(self) -> str:
        response = self._http.post("/auth/token", json=self._credentials)
        if not response.is_success:
            raise AirflowApiError(
                f"Sign-in failed: {response.status_code} {response.text[:2000]}", response.status_code
            )
        token: str = response.json()["access_token"]
        return token

    def _pages(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            response = self.call("GET", path, limit=PAGE, offset=offset, **query)
            rows = response[key]
            yield from rows
            offset += len(rows)
            if not rows or offset >= response["total_entries"]:
                return

    # the instance

    def health(self) -> dict[str, str | None] | None:
        """Return the status of each component by name, such as "healthy"; None while the API is down."""
        try:
            response = self._http.get("/api/v2/monitor/health", timeout=5)
        except httpx.TransportError:
            return None
        if not response.is_success:
            return None
        return {name: part.get("status") for name, part in response.json().items() if part}

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the Dag import errors, as listed in the UI."""
        return list(self._pages("importErrors", "import_errors"))

    # Dags

    def dags(self) -> list[dict[str, Any]]:
        """Return all Dags that are not stale."""
        return list(self._pages("dags", "dags"))

    def dag_details(self, dag_id: str) -> dict[str, Any]:
        """Return the details of one Dag."""
        details: dict[str, Any] = self.call("GET", f"dags/{quote(dag_id)}/details")
        return details

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the tasks of a Dag's latest version."""
        response: dict[str, Any] = self.call("GET", f"dags/{quote(dag_id)}/tasks")
        return list(response["tasks"])

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60.0, parses: int = 0) -> dict[str, Any]:
        """Wait until the Dag exists and was parsed `parses` more times, and return its details.

        `parses=2` makes sure that file changes from before the call are included: the first parse can have
        begun before them.
        """
        seen: set[str | None] = set()

        def parsed_details() -> dict[str, Any] | None:
            details = self._dag_or_none(dag_id)
            if details is None or details.get("is_stale"):
                return None
            seen.add(details["last_parsed_time"])
            return details if len(seen) > parses else None

        return self._wait(
            parsed_details, timeout, lambda: f"Dag {dag_id} did not appear: {self._why_no_dag()}"
        )

    def wait_until_gone(self, dag_id: str, *, timeout: float = 60.0) -> None:
        """Wait until the Dag is stale or deleted."""

        def gone() -> bool:
            details = self._dag_or_none(dag_id)
            return details is None or bool(details.get("is_stale"))

        self._wait(gone, timeout, lambda: f"Dag {dag_id} still exists")

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
        return "\n".join([*errors, f"Existing Dags: {known}."])

    # runs

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run with `conf` as its payload and return its run id.

        Raises:
            AirflowApiError: Airflow refused it; `status` is 400 if `conf` does not match the params.
        """
        body = {"conf": conf or {}, "logical_date": None, "dag_run_id": run_id}
        response: dict[str, Any] = self.call("POST", f"dags/{quote(dag_id)}/dagRuns", body=body)
        return str(response["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        response: dict[str, Any] = self.call("GET", self._run_path(dag_id, run_id))
        return response

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of a Dag."""
        return list(self._pages(f"dags/{quote(dag_id)}/dagRuns", "dag_runs"))

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120.0) -> str:
        """Wait until the run is over and return "success" or "failed"."""

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

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return all task instances of a run, also mapped ones, sorted by task id and map index."""
        rows = self._pages(f"{self._run_path(dag_id, run_id)}/taskInstances", "task_instances", order_by="id")
        return sorted(
            (TaskInstance.from_api(row) for row in rows), key=lambda task: (task.task_id, task.map_index)
        )

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int = -1,
        *,
        states: Sequence[str] = ("running",),
        timeout: float = 60.0,
    ) -> TaskInstance:
        """Wait until a task instance is in one of `states`, and return it."""

        def in_state() -> TaskInstance | None:
            return next(
                (
                    task
                    for task in self.task_instances(dag_id, run_id)
                    if (task.task_id, task.map_index) == (task_id, map_index) and task.state in states
                ),
                None,
            )

        return self._wait(in_state, timeout, lambda: self._why_not_over(dag_id, run_id))

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return the JSON value of an XCom of a task instance.

        Raises:
            AirflowApiError: the XCom does not exist (`status` 404).
        """
        task = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}"
        entry = self.call("GET", f"{task}/xcomEntries/{quote(key, safe='')}", map_index=map_index)
        return entry["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[str]:
        """Return the XCom keys of a task instance, as listed in the UI's XCom tab."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries"
        rows = self._pages(path, "xcom_entries", map_index=map_index)
        return sorted(row["key"] for row in rows)

    def logs(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> str:
        """Return the log of a task instance, one line per event; of its last try by default."""
        if try_number is None:
            rows = self.task_instances(dag_id, run_id)
            try_number = next(t.try_number for t in rows if (t.task_id, t.map_index) == (task_id, map_index))
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        events = self.call("GET", path, map_index=map_index, full_content=True)["content"]
        return "\n".join(_log_line(event) for event in events)

    # changes of runs

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str],
        map_indexes: Sequence[int] | None = None,
        *,
        only_failed: bool = False,
        downstream: bool = False,
    ) -> list[TaskInstance]:
        """Clear task instances so that they run again, and return those that were cleared.

        `map_indexes` limits every task of `task_ids` to these map indexes; None clears all of them.
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
        response = self.call("POST", f"dags/{quote(dag_id)}/clearTaskInstances", body=body)
        return [
            TaskInstance.from_api({"pid": None, "duration": None} | row) for row in response["task_instances"]
        ]

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Set the state of a task instance manually: "success", "failed" or "skipped"."""
        suffix = f"/{map_index}" if map_index >= 0 else ""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}{suffix}"
        self.call("PATCH", path, body={"new_state": state})

    def mark_success(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Mark a task instance as success manually."""
        self.set_state(dag_id, run_id, task_id, "success", map_index)

    def _wait(self, poll: Callable[[], T | None], timeout: float, why: Callable[[], str]) -> T:
        end = time.monotonic() + timeout
        while True:
            # A busy server answers later; what is polled has no effect.
            with suppress(httpx.TimeoutException):
                if value := poll():
                    return value
            if time.monotonic() > end:
                raise AirflowApiError(f"After {timeout:.0f} s, at {datetime.now(UTC):%H:%M:%S} UTC: {why()}")
            time.sleep(POLL_SECONDS)


def _was_rolled_back(response: httpx.Response) -> bool:
    """Return whether the database rolled the call back to resolve a deadlock, so that it had no effect."""
    return response.status_code == httpx.codes.INTERNAL_SERVER_ERROR and '"Database error"' in response.text


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    details = [f"{name}={event[name]}" for name in ("error_detail", "exc_info") if event.get(name)]
    head = [str(event.get(name) or "") for name in ("timestamp", "level", "event")]
    return " ".join([*head, *details])
