"""Notifiers that flows name, called by Airflow's callbacks."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_allma.dag_factory import build_dag
from airflow_allma.exceptions import NotifierError
from airflow_allma.flow import Flow
from airflow_allma.operators.notifications import FlowNotifier, notify_deadline
from tests.airflow.finished_run import ask
from tests.airflow.flows import compose, failing, flow
from tests.support.notifiers import Noted

pytestmark = pytest.mark.airflow

MODULE = "tests.support.notifiers"


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__NOTIFIERS", f"{MODULE}.*")
    monkeypatch.setattr(Noted, "notes", [])


def notify(*on, message, notifier="Noted", **args):
    return {"on": list(on), "notifier": f"{MODULE}.{notifier}", "args": {"message": message, **args}}


def test_a_run_that_fails_tells_why_and_nobody_else(run):
    options = {
        "notify": [
            notify("failure", message="{{event}} of {{dag_id}} v{{flow_version}} at {{task_id}}"),
            notify("failure", message="later: {{reason}}", notifier="NotedLater"),
            notify("success", "retry", message="never"),
        ]
    }
    ran = run({"a": failing()}, airflow=options)
    assert ran.state == "failed"
    (first, _), (second, _) = Noted.notes
    assert first.startswith("failure of run-")
    assert first.endswith(" v1 at a")
    assert second == "later: task_failure"


def test_a_run_that_succeeds_tells_it_with_values_of_any_kind(run):
    data = {"event": "$.event", "list": ["{{run_id}}", 1], "nothing": "$.error"}
    options = {"notify": [notify("success", message="{{dag_id}}", data=data)]}
    ran = run({"a": compose()}, airflow=options)
    ((message, notes),) = Noted.notes
    assert message.startswith("run-")
    assert notes == {"event": "success", "list": [ran.run_id, 1], "nothing": None}


def test_a_try_that_is_repeated_tells_its_error(run, shop):
    shop.answer = lambda _, number: (200, {"ready": True} if number > 1 else {})
    options = {"notify": [notify("retry", message="{{task_id}} try {{try_number}}: {{error}}")]}
    retries = {"count": 1, "intervalSeconds": 1}
    required = {"requiredFields": ["$.data.ready"]}
    step = ask(shop, path="/x", onError={"retries": retries}, outputValidation=required)
    assert run({"a": step}, airflow=options).state == "success"
    ((message, _),) = Noted.notes
    assert message.startswith("a try 1: ContentBasedRetryableError: ")


@pytest.mark.parametrize("text", ["{{ 7 * 6 }}", "{% raw %}", "file.txt", "$.dag_id", "{{dag_id}}"])
def test_text_from_data_is_never_a_template_or_the_name_of_a_file(text):
    notifier = FlowNotifier("retry", f"{MODULE}.Noted", {"message": "{{error}}"}, "shop", 1)
    notifier({"run_id": "r", "exception": ValueError(text)})
    assert Noted.notes == [(text, None)]


def test_a_notifier_that_is_not_allowed_anymore_is_not_called(monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__NOTIFIERS", "")
    notifier = FlowNotifier("failure", f"{MODULE}.Noted", {"message": "x"}, "shop", 1)
    with pytest.raises(NotifierError, match="not among those that flows may call"):
        notifier({"run_id": "r"})
    assert Noted.notes == []


@pytest.mark.parametrize(("name", "error"), [("Failing", "ValueError"), ("Exiting", "SystemExit")])
def test_a_notifier_that_refuses_its_arguments_is_named(name, error):
    notifier = FlowNotifier("failure", f"{MODULE}.{name}", {}, "shop", 1)
    with pytest.raises(NotifierError, match=f"{name} refuses its arguments: {error}: not today"):
        notifier({"run_id": "r"})


def test_the_error_of_a_failed_run_is_that_of_the_task_which_failed():
    notifier = FlowNotifier("failure", f"{MODULE}.Noted", {"message": "{{error}} ({{map_index}})"}, "shop", 1)
    notifier({"run_id": "r", "ti": TaskInstance({"errorName": "E", "errorMessage": "no {{ds}}"})})
    notifier({"run_id": "r", "ti": TaskInstance(None)})
    assert Noted.notes == [("E: no {{ds}} (3)", None), (" (3)", None)]


class TaskInstance:
    """A mapped task instance that pushed an error, or nothing."""

    task_id, map_index, try_number = "a", 3, 1

    def __init__(self, error):
        self.error = error

    def xcom_pull(self, *, task_ids, key, map_indexes):
        assert (task_ids, key, map_indexes) == ("a", "allma_error", 3)
        return None if self.error is None else json.dumps(self.error)


def test_without_a_task_a_notification_has_fewer_facts():
    FlowNotifier("failure", f"{MODULE}.Noted", {"message": "{{run_id}}/{{task_id}}"}, "shop", 1)(
        {"run_id": "r"}
    )
    assert Noted.notes == [("r/", None)]


@pytest.mark.parametrize("notifier", ["Noted", "NotedLater"])
def test_a_missed_deadline_tells_the_run(notifier):
    context = {
        "dag_run": {"dag_id": "shop", "dag_run_id": "r 1", "logical_date": None, "run_after": "2026-01-01"},
        "deadline": {"id": "1", "deadline_time": "2026-01-02"},
    }
    message = "{{event}} {{dag_id}} {{run_id}} {{flow_id}} v{{flow_version}} {{run_after}} {{deadline}}"
    arguments = {"notifier": f"{MODULE}.{notifier}", "args": {"message": message}}
    asyncio.run(notify_deadline(**arguments, flow_id="shop", flow_version=2, context=context))
    assert Noted.notes == [("deadline shop r 1 shop v2 2026-01-01 2026-01-02", None)]


def late(**options):
    deadline = {"seconds": 60, "notifier": f"{MODULE}.Noted", "args": {"message": "late"}, **options}
    return flow("late", {"a": compose()}, airflow={"deadline": deadline, "dagDisplayName": "Late"})


@pytest.mark.parametrize(
    ("options", "reference"),
    [({}, "DagRunQueuedAtDeadline"), ({"from": "logicalDate"}, "DagRunLogicalDateDeadline")],
)
def test_a_deadline_is_part_of_the_dag(options, reference):
    dag = build_dag(Flow.model_validate(late(**options)))
    (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert (alert.interval.total_seconds(), alert.reference.reference_name) == (60, reference)
    assert alert.callback.path == "airflow_allma.operators.notifications.notify_deadline"
    assert dag.dag_display_name == "Late"


def test_equal_flows_have_equal_serialized_dags_with_a_deadline():
    from airflow.serialization.serialized_objects import DagSerialization

    first, second = (DagSerialization.to_dict(build_dag(Flow.model_validate(late()))) for _ in range(2))
    assert first == second


def test_a_flow_without_notifications_has_no_callbacks():
    dag = build_dag(Flow.model_validate(flow("plain", {"a": compose()})))
    assert (dag.on_failure_callback, dag.on_success_callback, dag.deadline) == (None, None, None)
    assert list(dag.get_task("a").on_retry_callback) == []
