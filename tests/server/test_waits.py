"""GET /allma/waits and the page: what waits for what, for whom."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

pytestmark = pytest.mark.airflow


@pytest.fixture
def waits(client, sign_in):
    def get(role="viewer", **query):
        answer = client.get("/waits", headers=sign_in(role), params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return get


def test_a_wait_is_listed_with_all_that_is_known_of_it(tasks, waits):
    until = time.time() + 3600
    task = tasks.park("k<1>", map_index=3, branch="b", item=7, message="Approve?\nNow", until=until)
    (wait,) = waits(role="user")["waits"]
    since = wait.pop("since")
    assert since == pytest.approx(time.time() - 600, abs=60)
    assert wait == {
        "key": "k<1>",
        "dagId": "flow-a",
        "runId": task.run_id,
        "taskId": "wait",
        "mapIndex": 3,
        "step": "s",
        "branch": "b",
        "item": 7,
        "message": "Approve?\nNow",
        "until": until,
        "mayResume": True,
    }


def test_only_what_still_waits_is_listed(tasks, waits, client, sign_in):
    tasks.park("open")
    tasks.park("queued", state="queued")
    tasks.park("ended", state="success")
    tasks.park("late", until=time.time() - 1)
    tasks.park("run ended").change(run_state="failed")
    tasks.park("delivered")
    client.post("/resume", headers=sign_in("user"), json={"correlationValue": "delivered"})
    assert {wait["key"] for wait in waits()["waits"]} == {"open", "queued"}


def test_the_longest_waits_come_first_in_pages(tasks, waits):
    for minutes in (5, 9, 7):
        tasks.park(f"k{minutes}", parked=timedelta(minutes=minutes))
    pages = [waits(limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [[wait["key"] for wait in page["waits"]] for page in pages] == [["k9", "k7"], ["k5"], []]
    assert {page["total"] for page in pages} == {3}


def test_waits_are_found_by_dag_run_and_part_of_the_key(tasks, waits):
    tasks.park("order:1")
    task = tasks.park("order:2", dag_id="flow-b")
    tasks.park("other:2", dag_id="flow-b")
    assert [wait["key"] for wait in waits(key="order", dagId="flow-b")["waits"]] == ["order:2"]
    assert [wait["key"] for wait in waits(runId=task.run_id)["waits"]] == ["order:2"]
    assert waits(key="%")["waits"] == []


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"limit": "x"}])
def test_a_page_that_does_not_exist_is_422(client, sign_in, query):
    assert client.get("/waits", headers=sign_in("viewer"), params=query).status_code == 422


def test_only_dags_that_the_user_may_read_are_listed(tasks, waits, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def only_flow_a(self, *, method, user, access_entity=None, details=None):
        return details.id == "flow-a" and method == "GET"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_flow_a)
    tasks.park("mine")
    tasks.park("other", dag_id="flow-b")
    page = waits()
    assert [(wait["key"], wait["mayResume"]) for wait in page["waits"]] == [("mine", False)]
    assert page["total"] == 1


def test_viewers_see_waits_that_they_may_not_resume(tasks, waits):
    tasks.park("k")
    assert waits(role="viewer")["waits"][0]["mayResume"] is False


def test_an_xcom_that_is_no_wait_is_not_listed(tasks, waits):
    task = tasks.park("k")
    task.push("allma_wait:0123", {"some": "thing"})
    assert [wait["key"] for wait in waits()["waits"]] == ["k"]


OPEN_ROUTES = {"/events", "/static/{name}", "/static/{version}/{path:path}", "/ui"}


def test_every_route_with_data_needs_a_sign_in(client):
    paths = {route.path: route.methods for route in client.app.routes}
    assert paths.keys() >= OPEN_ROUTES | {"/resume", "/waits"}
    for path, methods in paths.items():
        for method in methods - {"HEAD"}:
            filled = path.replace("{name}", "events.js").replace("{version}", "1").replace("{path:path}", "")
            status = client.request(method, filled).status_code
            assert status in ({200, 404} if path in OPEN_ROUTES else {401}), path


def test_the_page_brings_its_own_script_and_style_and_allows_no_others(client):
    page = client.get("/events")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for name, media_type in (("events.js", "text/javascript"), ("events.css", "text/css")):
        assert f"static/{name}" in page.text
        assert client.get(f"/static/{name}").headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("name", ["events.html", "..%2fweb_app.py", "nothing.js"])
def test_only_the_pages_own_files_are_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_the_script_puts_no_html_together(client):
    script = client.get("/static/events.js").text
    for name in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert name not in script
