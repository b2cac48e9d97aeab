"""What a deferred task does when Airflow continues it, however its trigger has ended."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from airflow_allma.operators import task_context
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.operators.poll_trigger import PollTrigger
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import flow
from tests.airflow.polls import poll

TIMED_OUT = {"error": "Trigger timeout"}
FAILED = {
    "error": "Trigger failure",
    "traceback": ["Traceback\n", "  line\n", "ImportError: no such module\n"],
}


@pytest.fixture
def deferred(shop):
    """Return a run whose task ``a`` is deferred, after one call, and what it raised."""
    shop.answer = lambda path, call: (200, {"done": call == 2, "n": call})
    run = FakeDagRun(flow("deferred-poll", {"a": poll(f"{shop.url}/x")}))
    with pytest.raises(TaskDeferred) as raised:
        run.run("a")
    return run, raised.value


def move_clock(monkeypatch, seconds):
    later = time.time() + seconds
    monkeypatch.setattr(
        task_context, "build_services", lambda *them: replace(build_services(*them), now=lambda: later)
    )


def resume(run, method, arguments):
    task = run.dag.get_task("a")
    return task.resume_execution(method, arguments, run.context("a"))


def test_the_trigger_is_made_again_from_what_airflow_stores(deferred, shop):
    _, raised = deferred
    name, arguments = raised.trigger.serialize()
    assert name == "airflow_allma.operators.poll_trigger.PollTrigger"
    again = PollTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (name, arguments)
    # Longer than ten intervals and calls can take.
    assert raised.timeout.total_seconds() > 3600
    assert shop.calls == {"/x": 1}


def test_an_event_that_comes_too_early_defers_the_task_again(deferred, shop):
    run, raised = deferred
    with pytest.raises(TaskDeferred) as again:
        resume(run, raised.method_name, {"event": {}})
    assert again.value.trigger.serialize() == raised.trigger.serialize()
    assert shop.calls == {"/x": 1}


def test_the_worker_repeats_a_call_that_the_triggerer_could_not_finish(deferred, shop):
    run, raised = deferred
    assert resume(run, raised.method_name, {"event": {"repeat": True}})["data"] == {"done": True, "n": 2}
    assert shop.calls == {"/x": 2}


def test_a_trigger_that_failed_is_an_error_of_the_step(deferred):
    run, _ = deferred
    with pytest.raises(AirflowException, match=r"Polling failed.*ImportError: no such module"):
        resume(run, "__fail__", FAILED)


def test_a_triggerer_that_never_ran_leaves_the_calls_to_the_worker(deferred, shop, monkeypatch):
    run, _ = deferred
    move_clock(monkeypatch, 60)
    assert resume(run, "__fail__", TIMED_OUT)["data"] == {"done": True, "n": 2}
    assert shop.calls == {"/x": 2}


def test_the_deadline_ends_a_poll_that_nobody_has_continued(deferred, monkeypatch):
    run, raised = deferred
    move_clock(monkeypatch, raised.timeout.total_seconds())
    with pytest.raises(AirflowException, match="its time is over"):
        resume(run, "__fail__", TIMED_OUT)


def first_event(trigger):
    async def run():
        return await anext(trigger.run())

    return asyncio.run(run())


def test_the_response_stays_out_of_the_log_of_the_triggerer(deferred):
    _, raised = deferred
    trigger = raised.trigger
    trigger.details["progress"]["due"] = 0.0
    event = first_event(trigger)
    assert event.payload["output"]["data"] == {"done": True, "n": 2}
    assert (str(event), repr(event)) == ("<poll: output>", "<poll: output>")


def test_a_trigger_with_the_details_of_another_version_asks_the_worker():
    assert first_event(PollTrigger("a", {"progress": {"key": 1}})).payload == {"repeat": True}


def test_a_trigger_without_a_request_only_waits(deferred, shop):
    _, raised = deferred
    details = {**raised.trigger.details, "request": None}
    details["progress"]["due"] = 0.0
    assert first_event(PollTrigger("a", details)).payload == {}
    assert shop.calls == {"/x": 1}
