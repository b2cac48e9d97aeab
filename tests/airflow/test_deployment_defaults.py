"""Defaults that depend on Airflow's database and executor: SQLite, and the folder of the LocalExecutor."""

from __future__ import annotations

import logging
import stat
import sys
import types

import pytest

from airflow_allma import configuration
from airflow_allma.compat import task_process
from airflow_allma.configuration import dag_limit, load_settings, warn_about_sqlite
from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import AirflowOptions, Flow
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.provider import get_provider_info
from airflow_allma.storage import load_content, store_value
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork

pytestmark = pytest.mark.airflow

SQLITE = "sqlite:////somewhere/airflow.db"
POSTGRESQL = "postgresql+psycopg2://airflow:secret@db/airflow"
HIDDEN = "airflow-db-not-allowed:///"


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch):
    """Forget the database of this process, and what was logged once."""
    monkeypatch.setattr(task_process, "_noted_database", [])
    for cached in (
        configuration._local_location,
        configuration._warn_about_sqlite,
        configuration._log_sqlite_default,
    ):
        cached.cache_clear()
    yield
    configuration._local_location.cache_clear()


@pytest.fixture
def start_component(monkeypatch):
    """Return a function that does what a component of Airflow does when it starts with a database."""

    def start(url):
        monkeypatch.setitem(sys.modules, "airflow.settings", types.SimpleNamespace(SQL_ALCHEMY_CONN=url))
        get_provider_info()

    return start


@pytest.fixture
def local_task(monkeypatch, tmp_path):
    """Make this process a task of the LocalExecutor, with an Airflow home of its own."""
    runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", None, raising=False)
    monkeypatch.setitem(sys.modules, "airflow.executors.local_executor", types.ModuleType("local_executor"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    return tmp_path


def dag_limits():
    return dag_limit("max_active_tasks_per_dag"), dag_limit("max_active_runs_per_dag")


def limits(**own):
    settings = load_settings(AirflowOptions.model_validate(own))
    return settings.max_in_memory_items, settings.max_chunks


# SQLite


@pytest.mark.parametrize(
    ("url", "of_dag", "of_fork"),
    [
        (SQLITE, (4, 2), (20, 8)),
        ("sqlite+pysqlite:////x.db", (4, 2), (20, 8)),
        (POSTGRESQL, (16, 16), (300, 200)),
    ],
    ids=["sqlite", "with a driver", "postgresql"],
)
@pytest.mark.usefixtures("local_task")
def test_sqlite_has_lower_defaults(start_component, url, of_dag, of_fork):
    start_component(url)
    # Processes that are forked afterwards do not see the address any more.
    start_component(HIDDEN)
    assert dag_limits() == of_dag
    assert limits() == of_fork
    made = build_dag(Flow.model_validate(flow("small", {"a": compose()})))
    assert (made.max_active_tasks, made.max_active_runs) == of_dag


def test_a_process_that_never_saw_the_address_has_the_usual_defaults(start_component, local_task):
    start_component(HIDDEN)
    assert (dag_limits(), limits()) == ((16, 16), (300, 200))


def test_a_task_on_another_machine_has_the_usual_defaults(start_component):
    # A Celery worker configures no database, and Airflow's default is SQLite.
    start_component(SQLITE)
    assert limits() == (300, 200)


@pytest.mark.usefixtures("local_task")
def test_what_the_user_sets_wins_and_is_warned_of_once(start_component, monkeypatch, caplog):
    start_component(SQLITE)
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_IN_MEMORY_ITEMS", "300")
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_CHUNKS", "5")
    monkeypatch.setenv("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "16")
    for _ in range(2):
        assert dag_limits() == (16, 2)
        assert limits() == (300, 5)
        warn_about_sqlite(load_settings())
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [text.partition(" is more than SQLite can handle")[0] for text in warnings] == [
        "[core] max_active_tasks_per_dag = 16",
        "max_in_memory_items = 300",
    ]


@pytest.mark.usefixtures("local_task")
def test_the_usual_defaults_in_a_file_are_not_a_choice(start_component, monkeypatch):
    from airflow.sdk import conf

    # `airflow standalone` writes all defaults into airflow.cfg.
    start_component(SQLITE)
    for section, name, value in (
        ("allma", "max_in_memory_items", "300"),
        ("core", "max_active_tasks_per_dag", "16"),
        ("core", "max_active_runs_per_dag", "3"),
    ):
        monkeypatch.setitem(conf._sections.setdefault(section, {}), name, value)
    assert (dag_limits(), limits()) == ((4, 3), (20, 8))


@pytest.mark.usefixtures("local_task")
def test_a_flow_and_a_lower_limit_of_airflow_win_too(start_component, monkeypatch):
    start_component(SQLITE)
    assert limits(maxInMemoryItems=100, maxChunks=50) == (100, 50)
    own = flow("small", {"a": compose()}, airflow={"maxActiveRuns": 7})
    assert build_dag(Flow.model_validate(own)).max_active_runs == 7
    monkeypatch.setenv("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "2")
    assert dag_limits() == (2, 2)


@pytest.mark.usefixtures("local_task")
def test_the_log_of_a_fork_says_why_it_runs_in_chunks(start_component, caplog):
    caplog.set_level(logging.INFO)
    start_component(SQLITE)
    dag_run = FakeDagRun(flow("why", {"f": fork(branch("w")), "w": compose()}), {"items": list(range(21))})
    assert dag_run.run("f.items") == []
    assert "more than max_in_memory_items (20, the default with SQLite)" in caplog.text
    assert len(dag_run.run("f.chunks")) == 2


# The folder of the LocalExecutor


def test_results_are_stored_below_airflows_home_under_the_local_executor(local_task):
    settings = load_settings()
    assert settings.offload_location == ""
    assert settings.results_location == (local_task / "allma").as_uri()
    assert stat.S_IMODE((local_task / "allma").stat().st_mode) == 0o700
    services = build_services(settings, logging.getLogger("x"))
    location = services.settings.results_location
    pointer = store_value(services.store, location, [1, 2], "dag", "run")
    assert load_content(services.store, pointer) == [1, 2]
    assert services.settings.offload_location is None


def test_a_chunk_keeps_its_results_there_and_step_outputs_stay_inline(local_task):
    steps = {
        "f": fork(branch("w"), to="end"),
        "w": compose({"n": "$.currentItem"}),
        "end": compose({"all": "$.steps_output.f.aggregatedData"}),
    }
    items = ["x" * 100] * 400
    dag_run = FakeDagRun(flow("local", steps, airflow={"maxInMemoryItems": 200}), {"items": items})
    for number, chunk in enumerate(dag_run.plan("f")):
        dag_run.run("f.chunk", number, chunk)
    stored = [file for file in (local_task / "allma").rglob("*") if file.is_file()]
    assert any("/results/" in str(file) for file in stored)
    assert dag_run.run("f.aggregate") == {"aggregatedData": [{"n": item} for item in items]}
    assert dag_run.run("end") == {"all": [{"n": item} for item in items]}


def test_a_result_that_is_too_large_for_xcoms_becomes_an_object_there(local_task, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_INLINE_BYTES", "1000")
    steps = {"f": fork(branch("w")), "w": compose({"n": "$.currentItem"})}
    dag_run = FakeDagRun(flow("large", steps, airflow={"maxInMemoryItems": 0}), {"items": ["x" * 100] * 20})
    for number, chunk in enumerate(dag_run.plan("f")):
        dag_run.run("f.chunk", number, chunk)
    pointer = dag_run.run("f.aggregate")["aggregatedData"]["_s3_output_pointer"]
    assert (local_task / "allma") in list((local_task.__class__("/") / pointer["key"]).parents)


@pytest.mark.parametrize(
    ("executor", "home"), [("LocalExecutor,CeleryExecutor", True), ("LocalExecutor", False)]
)
def test_there_is_no_folder_beside_other_executors_or_if_it_cannot_be_made(
    local_task, monkeypatch, caplog, executor, home
):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    if not home:
        (local_task / "allma").write_text("in the way")
    assert load_settings().results_location == ""
    assert ("cannot be created" in caplog.text) is not home


def test_another_location_is_used_alone(local_task):
    settings = load_settings(AirflowOptions.model_validate({"offloadLocation": "s3://bucket/x"}))
    assert settings.results_location == "s3://bucket/x"
    assert not (local_task / "allma").exists()


@pytest.mark.parametrize(("is_set", "said"), [(False, True), (True, False)])
def test_the_first_task_says_that_no_location_is_set(caplog, tmp_path, is_set, said):
    caplog.set_level(logging.INFO)
    options = {"offloadLocation": tmp_path.as_uri()} if is_set else {}
    dag_run = FakeDagRun(flow("said", {"a": compose(to="b"), "b": compose()}, airflow=options))
    dag_run.run("a")
    assert caplog.text.count("No [allma] offload_location is set") == said
    dag_run.run("b")
    assert caplog.text.count("No [allma] offload_location is set") == said
