"""Runs of flows in the database of the test process, and requests of users about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.support.airflow import RunDag, RunResult

Json = dict[str, Any]


class PageRuns:
    """Runs flows and asks the API about them as a user with a role.

    Args:
        run_dag: the fixture.
        client: a client of the application.
        sign_in: returns the headers of a user with a role.
    """

    def __init__(self, run_dag: RunDag, client: Any, sign_in: Callable[[str], Mapping[str, str]]) -> None:
        self.client = client
        self._run_dag = run_dag
        self._sign_in = sign_in

    def run(self, flow: Json, conf: Json | None = None) -> RunResult:
        """Run a flow to its end."""
        return self._run_dag(build_dag(Flow.model_validate(flow)), conf)

    def ask(self, path: str, role: str | None = "viewer", **query: Any) -> Any:
        """Return the answer to a request for a path below the API; without a role nobody asks."""
        headers = {} if role is None else self._sign_in(role)
        return self.client.get(f"/api{path}", headers=headers, params=query or None)

    def get(self, path: str, **query: Any) -> Json:
        """Return the JSON that a path below the API answers."""
        answer = self.ask(path, **query)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found
