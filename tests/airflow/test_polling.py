"""Flows that poll an API, in this process: dag.test() runs the trigger itself."""

from __future__ import annotations

import pytest

from tests.airflow.flows import branch, compose, fork
from tests.airflow.polls import poll

pytestmark = pytest.mark.airflow


def done_at(number):
    return lambda path, call: (200, {"done": call >= number, "n": call, "path": path})


def test_a_poll_on_the_main_path_is_deferred_until_its_job_is_done(run, shop):
    shop.answer = done_at(2)
    steps = {"a": poll(f"{shop.url}/{{{{job}}}}", "b"), "b": compose({"got": "$.steps_output.a.data"})}
    ended = run(steps, {"job": "j1"})
    assert ended.state == "success"
    assert ended.xcom("b") == {"got": {"done": True, "n": 2, "path": "/j1"}}
    assert shop.calls == {"/j1": 2}


def test_polls_in_mapped_branches_keep_to_their_own_item(run, shop):
    shop.answer = lambda path, call: (200, {"done": call >= 2, "error": path == "/b", "path": path})
    steps = {
        "f": fork(branch("w"), failOnBranchError=False, to="z"),
        "w": poll(f"{shop.url}/{{{{currentItem.id}}}}", "v"),
        "v": compose({"got": "$.steps_output.w.data.path"}),
        "z": compose({"all": "$.steps_output.f.aggregatedData"}),
    }
    ended = run(steps, {"items": [{"id": "a"}, {"id": "b"}]})
    assert ended.state == "success"
    first, second = ended.xcom("z")["all"]
    assert first == {"got": "/a"}
    assert second["error"]["errorName"] == "PollingFailed"
    assert shop.calls == {"/a": 2, "/b": 1}


def test_a_poll_that_fails_in_its_trigger_goes_on_at_the_fallback(run, shop):
    shop.answer = lambda path, call: (200, {"error": "broken" if call == 2 else None})
    steps = {
        "a": poll(f"{shop.url}/x", "b", onError={"fallbackStepInstanceId": "c"}),
        "b": compose(),
        "c": compose({"fell": "$.initialContextData"}),
    }
    ended = run(steps, {"n": 1})
    assert ended.state == "success"
    assert (ended.task("b").state, ended.task("c").state) == ("skipped", "success")
    assert shop.calls == {"/x": 2}


def test_a_poll_in_a_loop_waits_in_the_task(run, shop):
    shop.answer = done_at(2)
    steps = {
        "a": poll(f"{shop.url}/x", "b"),
        "b": {
            "stepType": "NO_OP",
            "transitions": [{"condition": "$.steps_output.a.data.n < 3", "nextStepInstanceId": "a"}],
            "defaultNextStepInstanceId": "c",
        },
        "c": compose({"n": "$.steps_output.a.data.n"}),
    }
    ended = run(steps)
    assert ended.state == "success"
    assert ended.xcom("c") == {"n": 3}
    assert shop.calls == {"/x": 3}
