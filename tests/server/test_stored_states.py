"""Runs whose state is stored: the API server reads it only from the run's own folder."""

from __future__ import annotations

import json

import pytest

from tests.airflow.flows import compose, fork

pytestmark = pytest.mark.airflow

FLOW = {
    "id": "stored-state",
    "startStepInstanceId": "fork",
    "steps": {
        "fork": fork({"branchId": "b", "stepInstanceId": "each"}),
        "each": compose({"n": "$.currentItem.n"}),
    },
}


@pytest.fixture
def run_path(pages, tmp_path, monkeypatch):
    """Run a flow whose state is too large for an XCom."""
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", (tmp_path / "allma").as_uri())
    monkeypatch.setenv("AIRFLOW__ALLMA__CONTEXT_OFFLOAD_BYTES", "100")
    ran = pages.run(FLOW, {"items": [{"n": 1, "more": "x" * 200}]})
    return f"/dags/stored-state/runs/{ran.run_id}"


def test_the_input_of_an_item_is_read_from_the_stored_state(pages, run_path):
    item = pages.get(f"{run_path}/forks/fork/items/0")
    assert item["input"]["n"] == 1
    assert pages.get(f"{run_path}/forks/fork/items", text="xxx")["rows"]


def test_a_state_elsewhere_is_not_read(pages, run_path, tmp_path):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    secret = tmp_path / "allma" / "other" / "run" / "state.json"
    secret.parent.mkdir(parents=True)
    secret.write_text(json.dumps({"context": {}, "items": ["secret of others"]}))
    query = select(XComModel).where(
        XComModel.run_id == run_path.rpartition("/")[2],
        XComModel.task_id == "fork.items",
        XComModel.key == "allma_state",
    )
    with create_session() as session:
        row = session.scalar(query)
        saved = json.loads(row.value)
        pointer = json.loads(json.dumps(saved["stored"]).replace(_key(saved["stored"]), _key_of(secret)))
        row.value = json.dumps({**saved, "stored": pointer})
    answer = pages.ask(f"{run_path}/forks/fork/items/0")
    assert answer.status_code == 503
    assert "offload_location" in answer.json()["detail"]
    assert "secret of others" not in answer.text


def _key(stored):
    from airflow_allma.storage import Pointer

    return Pointer.parse(stored).key


def _key_of(file):
    return str(file).lstrip("/")


@pytest.mark.parametrize(("executor", "found"), [("LocalExecutor", True), ("CeleryExecutor", False)])
def test_results_of_the_local_executor_are_found_on_this_machine(tmp_path, monkeypatch, executor, found):
    from airflow_allma import configuration

    (tmp_path / "allma").mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.delenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", raising=False)
    settings = configuration.load_server_settings()
    assert settings.results_location == ((tmp_path / "allma").as_uri() if found else "")
