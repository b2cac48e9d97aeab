"""Tasks whose process was lost, or that did not reach the API server: what runs again, and what does not."""

from __future__ import annotations

import types
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_allma.compat.missing_names import warn_once
from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow, Retries
from airflow_allma.operators.api_retries import RETRY_SECONDS, retry_unanswered_requests, with_retries
from airflow_allma.operators.retry_policy import FlowRetryPolicy, StepRetryError
from airflow_allma.operators.xcoms import Key, pull
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.finished_run import ask
from tests.airflow.flows import branch, compose, flow, fork

pytestmark = pytest.mark.airflow


def unanswered(status=None, kind="ConnectError", error=ErrorType.API_SERVER_ERROR):
    detail = {"status_code": status, "message": "no", **({"exception_type": kind} if kind else {})}
    return AirflowRuntimeError(ErrorResponse(error=error, detail=detail))


# The API server


class Clock:
    """A clock on which time passes only while somebody sleeps."""

    def __init__(self):
        self.now = 100.0
        self.waits = []

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def send_to(answers):
    """Return a function that retries requests to a server with these responses, and its clock."""
    clock, left = Clock(), iter(answers)

    def send(message):
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return message, answer

    return with_retries(send, sleep=clock.sleep, clock=lambda: clock.now), clock


@pytest.mark.parametrize(
    "failure",
    [
        unanswered(),
        unanswered(kind="ReadTimeout"),
        unanswered(kind="RemoteProtocolError"),
        unanswered(503, None),
        unanswered(500, None),
    ],
    ids=str,
)
def test_a_message_is_sent_again_until_the_server_answers(failure):
    send, clock = send_to([failure] * 5 + ["fine"])
    assert send("push") == ("push", "fine")
    assert clock.waits == [1, 2, 4, 8, 10]


@pytest.mark.parametrize(
    "failure",
    [
        unanswered(404, None),
        unanswered(409, None),
        unanswered(kind="TypeError"),
        unanswered(error=ErrorType.XCOM_NOT_FOUND),
        ValueError("no"),
    ],
    ids=str,
)
def test_an_answer_that_repeating_cannot_change_is_final(failure):
    send, clock = send_to([failure, "fine"])
    with pytest.raises(type(failure)) as raised:
        send("push")
    assert raised.value is failure
    assert clock.waits == []


def test_the_retries_end():
    send, clock = send_to([unanswered()] * 100)
    with pytest.raises(AirflowRuntimeError):
        send("push")
    assert RETRY_SECONDS <= sum(clock.waits) < RETRY_SECONDS + 20


def test_all_of_a_tasks_requests_are_retried_also_those_of_airflow(monkeypatch):
    runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    channel = types.SimpleNamespace(send=lambda message: f"sent {message}", socket="a socket")
    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", channel, raising=False)
    retry_unanswered_requests()
    retry_unanswered_requests()
    assert runner.SUPERVISOR_COMMS is not channel
    assert runner.SUPERVISOR_COMMS.send("x") == "sent x"
    assert runner.SUPERVISOR_COMMS.socket == "a socket"
    assert runner.SUPERVISOR_COMMS._channel is channel


def test_without_a_channel_that_sends_nothing_is_replaced(monkeypatch, caplog):
    warn_once.cache_clear()
    runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", object(), raising=False)
    before = runner.SUPERVISOR_COMMS
    retry_unanswered_requests()
    assert runner.SUPERVISOR_COMMS is before
    assert "Requests to the API server are not repeated" in caplog.text


# Airflow's retries


@pytest.mark.parametrize(
    ("of_airflow", "options", "plain", "with_own"),
    [
        (0, {}, 2, 3),
        (3, {}, 3, 3),
        (1, {}, 2, 3),
        (0, {"lostTaskRetries": 5}, 5, 6),
        (0, {"lostTaskRetries": 0}, 0, 1),
    ],
)
def test_lost_tasks_of_steps_are_retried_everywhere_and_nothing_else_more_often_than_before(
    monkeypatch, of_airflow, options, plain, with_own
):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TASK_RETRIES", str(of_airflow))
    own = {"onError": {"retries": {"count": 1, "intervalSeconds": 9}}}
    steps = {
        "a": compose(to="b"),
        "b": compose(to="f", **own),
        "f": fork(branch("w"), branch("v", "c"), to="x"),
        "w": compose(),
        "v": compose(**own),
        "x": compose(to="y", **own),
        "y": compose(to="x"),
    }
    made = build_dag(Flow.model_validate(flow("lost", steps, airflow=options)))
    found = {task.task_id: task.retries for task in made.tasks}
    assert {found[name] for name in ("a", "f.b.w", "x")} == {plain}
    assert {found[name] for name in ("b", "f.c.v")} == {with_own}
    policy = made.get_task("a").retry_policy
    decisions = [policy.evaluate(ValueError("a bug"), number, plain).action.value for number in range(1, 4)]
    assert decisions == ["default"] * of_airflow + ["fail"] * (3 - of_airflow)
    lost = policy.evaluate(unanswered(), 1, plain)
    assert (lost.action.value, lost.retry_delay) == ("retry", timedelta(seconds=5))


def test_a_steps_own_failure_keeps_its_delay_whatever_was_lost_before():
    policy = FlowRetryPolicy(Retries(count=3, interval_seconds=7, backoff_rate=3), lost=2)
    for failures, seconds in enumerate((7, 21, 63)):
        decision = policy.evaluate(StepRetryError("no", failures=failures), failures + 3, 5)
        assert decision.retry_delay == timedelta(seconds=seconds)


# Steps with side effects


def order(shop, method="POST", **more):
    return ask(shop, path="/order", apiHttpMethod=method, **more)


SECOND_TRY = (2, 0)


def run_twice(steps, **options):
    """Run a step, lose its process at its very end, and return what its second try returns or raises."""
    dag_run = FakeDagRun(flow("lost", {"s": steps}, airflow=options))
    assert dag_run.run("s")["status"] == 200
    dag_run.kill("s", -1)
    return dag_run, dag_run.run("s", tries=SECOND_TRY)


def test_a_step_that_may_have_had_side_effects_does_not_run_again_by_itself(shop):
    dag_run, ended = run_twice(order(shop))
    assert type(ended).__name__ == "AirflowFailException"
    for part in (
        "StepLostError: Step s may have had side effects",
        "try 1",
        "retry_lost_steps",
        "onError.retries",
        "clear",
    ):
        assert part in str(ended)
    assert shop.calls["/order"] == 1
    assert pull(dag_run.instance("x"), "s", Key.ERROR)["errorName"] == "StepLostError"


@pytest.mark.parametrize(
    ("method", "more", "options"),
    [
        ("GET", {}, {}),
        ("POST", {"onError": {"retries": {"count": 1}}}, {}),
        ("POST", {}, {"retryLostSteps": True}),
    ],
    ids=["it only reads", "its own retries", "the setting"],
)
def test_a_step_that_can_be_repeated_runs_again(shop, method, more, options):
    dag_run, ended = run_twice(order(shop, method, **more), **options)
    assert ended["status"] == 200
    assert shop.calls["/order"] == 2
    assert dag_run.notes == {("s", -1): {}}


def test_the_setting_can_be_made_for_all_flows(shop, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__RETRY_LOST_STEPS", "True")
    assert run_twice(order(shop))[1]["status"] == 200


def test_a_step_that_never_began_runs_in_the_next_try(shop):
    dag_run = FakeDagRun(flow("lost", {"s": order(shop)}))
    assert dag_run.run("s", tries=SECOND_TRY)["status"] == 200
    assert "may have had side effects before try 2" in str(dag_run.run("s", tries=(3, 0)))


def test_without_a_store_for_notes_a_step_that_may_have_had_side_effects_does_not_run_again(shop):
    dag_run = FakeDagRun(flow("lost", {"s": order(shop)}), keeps_notes=False)
    assert dag_run.run("s")["status"] == 200
    assert "may have had side effects before try 1" in str(dag_run.run("s", tries=SECOND_TRY))
    assert dag_run.run("s", tries=(3, 2))["status"] == 200


def test_clearing_a_task_runs_its_step_again(shop):
    dag_run, _ = run_twice(order(shop))
    assert dag_run.run("s", tries=(3, 2))["status"] == 200
    assert shop.calls["/order"] == 2
    assert "before try 3" in str(dag_run.run("s", tries=(4, 2)))


def test_a_lost_item_of_a_fork_fails_with_its_reason_and_alone(shop):
    dag_run = FakeDagRun(
        flow("lost", {"f": fork(branch("w"), toleratedFailurePercentage=50), "w": order(shop)}),
        {"items": [1, 2]},
    )
    dag_run.run("f.items")
    for index, tries in ((0, (1, 0)), (1, (1, 0)), (1, (2, 0))):
        dag_run.run("f.b.w", index, tries=tries)
    dag_run.run("f.chunks")
    first, second = dag_run.run("f.aggregate")["aggregatedData"]
    assert first["status"] == 200
    assert (second["error"]["errorName"], second["error"]["errorDetails"]) == (
        "StepLostError",
        {"lostTry": 1, "failedStepInstanceId": "w"},
    )


# Own failures


def test_a_lost_try_is_not_one_of_the_steps_own_failures():
    refused = {"outputValidation": {"requiredFields": ["$.missing"]}}
    retries = {"retries": {"count": 2, "intervalSeconds": 7}}
    dag_run = FakeDagRun(flow("lost", {"s": compose(onError=retries, **refused)}))
    ends = []
    for number in range(1, 6):
        if number in {2, 3}:
            continue  # lost before they did anything
        ends.append(dag_run.run("s", tries=(number, 0)))
    assert [type(end).__name__ for end in ends] == [
        "StepRetryError",
        "StepRetryError",
        "AirflowFailException",
    ]
    assert [end.failures for end in ends[:2]] == [0, 1]
    # A clear begins a new round.
    again = dag_run.run("s", tries=(6, 5))
    assert (type(again).__name__, again.failures) == ("StepRetryError", 0)
