"""Fixtures for the part that runs in Airflow's API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow import RunDag
from tests.support.page_runs import PageRuns
from tests.support.parked_tasks import ParkedTasks, parked_tasks

KEY = "order:4711"
PAYLOAD = {"approved": True, "by": "Zoë"}
BODY = {"correlationValue": KEY, "payload": PAYLOAD}


@pytest.fixture
def tasks(airflow_db: Path) -> Iterator[ParkedTasks]:
    """Waiting tasks in an empty database."""
    with parked_tasks() as made:
        yield made


@pytest.fixture
def session(airflow_db: Path) -> Iterator[Any]:
    """A session of the metadata database, which the test commits."""
    from airflow.utils.session import create_session

    with create_session() as made:
        yield made


@pytest.fixture
def sign_in(airflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Return the headers of a user with a role of SimpleAuthManager."""
    monkeypatch.setenv(
        "AIRFLOW__CORE__AUTH_MANAGER",
        "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    )
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "not a secret, but long enough for a signature" * 2)
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    manager = create_auth_manager()

    def headers(role: str) -> dict[str, str]:
        user = SimpleAuthManagerUser(username=f"a-{role}", role=role, teams=[])
        return {"Authorization": f"Bearer {manager.generate_jwt(user)}"}

    return headers


@pytest.fixture
def client(tasks: ParkedTasks) -> Iterator[Any]:
    """A client of the application, without Airflow around it."""
    from fastapi.testclient import TestClient

    from airflow_allma.server.web_app import create_app

    with TestClient(create_app(), raise_server_exceptions=True) as made:
        yield made


@pytest.fixture
def waker(tasks: ParkedTasks) -> Any:
    """The waker, whose rounds the test starts."""
    from airflow_allma.server.waker import Waker

    return Waker()


@pytest.fixture
def resume(client: Any, sign_in: Callable[[str], dict[str, str]]) -> Callable[..., Any]:
    """Send an event as a user with a role, and return the response."""

    def send(body: Any = BODY, role: str = "user", **options: Any) -> Any:
        return client.post("/resume", headers=sign_in(role), json=body, **options)

    return send


@pytest.fixture
def pages(run_dag: RunDag, sign_in: Callable[[str], dict[str, str]]) -> Iterator[PageRuns]:
    """Run flows, and ask the API about them."""
    from fastapi.testclient import TestClient

    from airflow_allma.server.web_app import create_app

    with TestClient(create_app(), raise_server_exceptions=True) as client:
        yield PageRuns(run_dag, client, sign_in)
