"""What the plugin registers: cheap in every process, and harmless when it breaks."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from importlib.resources import files

import pytest

from airflow_allma.server import registration
from airflow_allma.server.registration import (
    EXTERNAL_VIEWS,
    FASTAPI_APPS,
    REACT_APPS,
    LazyApp,
    WakerMiddleware,
)

pytestmark = pytest.mark.airflow


def call(app, scope):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    asyncio.run(app(scope, receive, send))
    return sent


def test_registering_imports_neither_fastapi_nor_airflow():
    code = (
        "import sys, airflow_allma.server.registration as r;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in {'fastapi', 'airflow', 'sqlalchemy'}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_airflow_takes_what_is_registered():
    from airflow import plugins_manager

    apps, middlewares = plugins_manager.get_fastapi_plugins()
    assert [app for app in apps if app["name"] == "Allma flows"] == FASTAPI_APPS
    assert any(one["middleware"] is WakerMiddleware for one in middlewares)
    views, apps = plugins_manager._get_ui_plugins()
    assert EXTERNAL_VIEWS[0]["url_route"] in {view["url_route"] for view in views}
    assert {app["url_route"] for app in REACT_APPS} <= {app["url_route"] for app in apps}


def test_the_bundle_has_every_name_under_which_airflow_looks_for_a_page():
    source = files("airflow_allma.server").joinpath("static", "ui", "host-react.js").read_text()
    assert json.loads(re.search(r"NAMES = (\[.*\]);", source)[1]) == [app["name"] for app in REACT_APPS]


def test_an_application_that_cannot_be_imported_answers_503_and_nothing_else_breaks(caplog):
    app = LazyApp("airflow_allma.server.there_is_no_such_module")
    for _ in range(2):
        start, _body = call(app, {"type": "http"})
        assert start["status"] == 503
    assert caplog.text.count("The routes below /allma are not available") == 1


def test_the_application_is_made_by_the_first_request():
    app = LazyApp("airflow_allma.server.web_app")
    assert app._app is None
    scope = {"type": "http", "method": "GET", "path": "/events", "headers": [], "query_string": b""}
    assert call(app, scope)[0]["status"] == 200


@pytest.fixture
def wakers(monkeypatch):
    events = []

    class FakeWaker:
        def stop(self):
            events.append("stopped")

    def start():
        events.append("started")
        return FakeWaker()

    monkeypatch.setattr(registration, "_started_waker", start)
    return events


def test_the_waker_lives_as_long_as_the_api_server(wakers):
    async def app(scope, receive, send):
        wakers.append(scope["type"])

    middleware = WakerMiddleware(app)
    call(middleware, {"type": "http"})
    call(middleware, {"type": "lifespan"})
    assert wakers == ["http", "started", "lifespan", "stopped"]


def test_a_waker_that_cannot_start_does_not_stop_the_api_server(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "airflow_allma.server.waker", None)
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    call(WakerMiddleware(app), {"type": "lifespan"})
    assert seen == ["lifespan"]
    assert "The waker did not start" in caplog.text


BROKEN_PAGES = """
import sys
sys.modules["airflow_allma.server.registration"] = None
from airflow_allma.plugin import AllmaPlugin
assert AllmaPlugin.fastapi_apps == AllmaPlugin.react_apps == AllmaPlugin.external_views == []
AllmaPlugin.validate()
from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from airflow.serialization.serialized_objects import DagSerialization
flow = {"id": "f", "startStepInstanceId": "a", "steps": {"a": {"stepType": "NO_OP"}},
        "airflow": {"schedule": "cron(0 6 * * ? *)"}}
dag = build_dag(Flow.model_validate(flow))
print(type(dag.timetable).__name__, [kind.__name__ for kind in AllmaPlugin.timetables])
"""


def test_broken_pages_do_not_take_timetables_and_flows_along():
    ran = subprocess.run([sys.executable, "-c", BROKEN_PAGES], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1] == (
        "AwsCronTimetable ['AwsCronTimetable', 'AwsRateTimetable', 'StartPointsTimetable']"
    )
    assert "has no pages of flows" in ran.stderr + ran.stdout
