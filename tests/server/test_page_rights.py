"""Who may read what below /allma/api: a walk over all routes, and roles."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from tests.airflow.flows import compose
from tests.server.test_waits import OPEN_ROUTES

pytestmark = pytest.mark.airflow

ALL_DAGS_ROUTES = {"/api/flows"}
"""Routes that are about no Dag in particular, and ask for each Dag what the user may see."""

PATHS = {
    "dag_id": "no-dag",
    "run_id": "no-run",
    "fork:path": "no-fork",
    "step_id:path": "no-step",
    "index": "0",
}


def api_routes(app):
    return [route for route in app.routes if getattr(route, "path", "").startswith("/api")]


def filled(path):
    for name, value in PATHS.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, path
    return path


def checks_of(route):
    """Return the names of the functions that a route depends on, also indirectly."""
    found, waiting = [], [route.dependant]
    while waiting:
        one = waiting.pop()
        found.append(f"{one.call.__module__}.{getattr(one.call, '__qualname__', '')}")
        waiting += one.dependencies
    return found


def test_every_route_is_get_and_has_the_check_of_its_dag(pages):
    routes = api_routes(pages.client.app)
    assert len(routes) >= 2
    for route in routes:
        assert isinstance(route, APIRoute), route
        assert route.methods == {"GET"}, route.path
        checks = checks_of(route)
        assert "airflow.api_fastapi.core_api.security.get_user" in checks, route.path
        if route.path not in ALL_DAGS_ROUTES:
            # The check finds the Dag by this name only.
            assert "{dag_id}" in route.path, route.path
            assert "airflow.api_fastapi.core_api.security.requires_access_dag.<locals>.inner" in checks, (
                route.path
            )


def test_nobody_is_401_on_every_route_before_anything_else_is_looked_at(pages):
    for route in api_routes(pages.client.app):
        for path in {filled(route.path), filled(route.path).replace("/0", "/nonsense")}:
            answer = pages.ask(path.removeprefix("/api"), role=None)
            assert answer.status_code == 401, (path, answer.text)
            assert answer.json() == {"detail": "Not authenticated"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_route_writes_whoever_asks_from_wherever(pages, sign_in, method):
    headers = sign_in("admin") | {"Content-Type": "text/plain", "Sec-Fetch-Site": "same-site"}
    for route in api_routes(pages.client.app):
        answer = pages.client.request(method, filled(route.path), headers=headers, content="{}")
        assert answer.status_code == 405, route.path


def test_all_dags_at_once_is_no_dag(pages):
    for route in api_routes(pages.client.app):
        if "{dag_id}" in route.path:
            path = filled(route.path.replace("{dag_id}", "~")).removeprefix("/api")
            assert pages.ask(path, role="admin").status_code == 404, path


def test_rights_are_those_of_each_dag(pages, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    runs = {name: pages.run(flow(name)) for name in ("mine", "other")}

    def only_mine(self, *, method, user, access_entity=None, details=None):
        return details is not None and details.id == "mine"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_mine)
    assert pages.ask(f"/dags/mine/runs/{runs['mine'].run_id}").status_code == 200
    for route in api_routes(pages.client.app):
        if "{dag_id}" in route.path:
            path = route.path.replace("{dag_id}", "other").replace("{run_id}", runs["other"].run_id)
            answer = pages.ask(filled(path).removeprefix("/api"))
            assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"}), path


@pytest.mark.parametrize("missing", ["RUN", "TASK_INSTANCE", "XCOM", None])
def test_a_run_needs_the_rights_to_see_runs_tasks_and_xcoms(pages, monkeypatch, missing):
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    without = None if missing is None else DagAccessEntity[missing]

    def all_but_one(self, *, method, user, access_entity=None, details=None):
        return missing is None or access_entity is not without

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", all_but_one)
    assert pages.ask("/dags/d/runs/r").status_code == (404 if missing is None else 403)


@pytest.mark.parametrize("role", ["viewer", "user", "op", "admin"])
def test_every_role_of_the_simple_auth_manager_may_look(pages, role):
    ran = pages.run(flow("roles"))
    assert pages.ask(f"/dags/roles/runs/{ran.run_id}", role=role).status_code == 200


def test_a_forged_token_is_403(pages):
    answer = pages.client.get("/api/dags/d/runs/r", headers={"Authorization": "Bearer e30.e30.e30"})
    assert answer.status_code == 403


def test_the_open_routes_are_pages_and_files(pages):
    assert not any(path.startswith("/api") for path in OPEN_ROUTES)


def flow(name):
    return {"id": name, "startStepInstanceId": "a", "steps": {"a": compose()}}
