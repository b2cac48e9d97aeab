"""Error handling with ``onError``, and the limits of transitions."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_allma.engine import RunState, fail_step
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import json_response
from airflow_allma.exceptions import ContentBasedRetryableError, PermanentStepError, TransientStepError
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import INFO, Fakes, call, compose, end, fork, noop, program_of, run, then

URL = "https://api.test/x"
FINE = json_response({"ok": True})
BUSY = json_response({}, status=503)
REFUSED = json_response({}, status=404)


def run_call(*answers, last_try=None, **fields):
    """Run one call that gets these responses, one after the other."""
    fakes = Fakes()
    fakes.http.route("GET", URL, *answers)
    steps = {"ask": call(**fields), "spare": noop(), "next": noop()}
    return run({key: steps[key] for key in _used(steps, fields)}, fakes=fakes, last_try=last_try)


def _used(steps, fields):
    return [key for key in steps if key == "ask" or f"'{key}'" in str(fields)]


def tries(ran):
    return len(ran.fakes.http.requests)


def test_a_step_with_a_transient_error_makes_five_attempts_with_growing_delays():
    ran = run_call(BUSY)
    assert (ran.status, tries(ran), ran.fakes.sleeps) == ("FAILED", 5, [0.5, 1.0, 2.0, 4.0])
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.error["isRetryable"] is True
    assert ran.fakes.record("ask").tries == 5


def test_a_transient_error_before_a_success_changes_only_the_number_of_attempts():
    ran = run_call(BUSY, TransientStepError("lost"), FINE)
    assert (ran.status, ran.error, ran.path, ran.fakes.record("ask").tries) == (
        "COMPLETED", None, ["ask"], 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("after", "slept"), [("3", [3.0]), ("0", [0.5]), ("100000", [60.0]), ("nonsense", [0.5])]
)
def test_retry_after_is_honored_up_to_the_maximum_delay(after, slept):
    ran = run_call(HttpResponse(429, {"retry-after": after}, b""), FINE)
    assert (ran.status, ran.fakes.sleeps) == ("COMPLETED", slept)


def test_jitter_adds_up_to_a_tenth():
    fakes = Fakes()
    fakes.http.route("GET", URL, BUSY)
    run({"ask": call()}, fakes=fakes, jitter=lambda: 1.0)
    assert fakes.sleeps == pytest.approx([0.55, 1.1, 2.2, 4.4])


def test_the_retries_of_a_step_follow_the_transient_ones_and_are_counted_separately():
    ran = run_call(BUSY, onError={"retries": {"count": 2, "intervalSeconds": 7, "backoffRate": 3}})
    short = [0.5, 1.0, 2.0, 4.0]
    assert (tries(ran), ran.fakes.sleeps) == (15, [*short, 7.0, *short, 21.0, *short])


@pytest.mark.parametrize("last_try", [None, False, True])
def test_a_permanent_error_is_never_retried(last_try):
    ran = run_call(REFUSED, onError={"retries": {"count": 5}}, last_try=last_try)
    assert (ran.status, tries(ran), ran.fakes.sleeps) == ("FAILED", 1, [])


def test_a_caller_that_retries_gets_the_state_before_the_step():
    fakes = Fakes()
    fakes.http.route("GET", URL, BUSY)
    steps = {"first": noop(**then("ask")), "ask": call(onError={"retries": {"count": 1}})}
    ran = run(steps, fakes=fakes, last_try=False)
    assert (ran.status, ran.path, ran.result.next_step) == ("RETRY", ["first"], "ask")
    assert ran.error["errorName"] == "TransientStepError"
    assert set(ran.outputs) == {"first"}


def test_after_the_last_attempt_of_the_caller_the_error_is_handled():
    on_error = {"retries": {"count": 1}, "continueOnFailure": True}
    assert run_call(BUSY, onError=on_error, last_try=False).status == "RETRY"
    assert run_call(BUSY, onError=on_error, last_try=True).status == "COMPLETED"


@pytest.mark.parametrize(
    ("names", "count"),
    [(None, 10), ([], 5), (["TransientStepError"], 10), (["PermanentStepError", "Other"], 5)],
)
def test_only_named_errors_are_retried(names, count):
    retries = {"count": 1, **({} if names is None else {"errorEquals": names})}
    assert tries(run_call(BUSY, onError={"retries": retries})) == count


@pytest.mark.parametrize(
    ("retry", "count", "slept"),
    [
        (None, 1, []),
        ({"count": 2}, 3, [0.0, 0.0]),
        ({"count": 2, "intervalSeconds": 4, "backoffRate": 2}, 3, [4.0, 8.0]),
    ],
)
def test_content_errors_are_retried_as_often_as_the_step_says(retry, count, slept):
    on_error = {} if retry is None else {"onError": {"retryOnContentError": retry}}
    ran = run_call(FINE, outputValidation={"requiredFields": ["$.data.price"]}, **on_error)
    assert (ran.status, tries(ran), ran.fakes.sleeps) == ("FAILED", count, slept)
    assert ran.error["errorName"] == "ContentBasedRetryableError"


def test_a_retry_after_a_content_error_may_succeed():
    on_error = {"retryOnContentError": {"count": 1}}
    good = json_response({"price": 1})
    ran = run_call(FINE, good, outputValidation={"requiredFields": ["$.data.price"]}, onError=on_error)
    assert (ran.status, tries(ran)) == ("COMPLETED", 2)


def test_continue_on_failure_precedes_the_fallback_and_outputs_the_error():
    ran = run_call(
        REFUSED,
        onError={"continueOnFailure": True, "fallbackStepInstanceId": "spare"},
        transitions=[
            {"condition": "$.steps_output.ask.errorName == 'x'", "nextStepInstanceId": "spare"},
        ],
        **then("next"),
    )
    assert (ran.status, ran.path) == ("COMPLETED", ["ask", "next"])
    output = ran.outputs["ask"]
    assert output["errorName"] == "PermanentStepError"
    assert output["errorDetails"]["failedStepInstanceId"] == "ask"
    assert output["isRetryable"] is False
    assert ran.fakes.record("ask").error == output


@pytest.mark.parametrize("delay", [{}, {"delay": {"milliseconds": 1}}])
def test_an_input_that_cannot_be_built_leads_to_the_fallback_despite_continue_on_failure(delay):
    store, payload = pointed("gone.json")
    on_error = {"continueOnFailure": True, "fallbackStepInstanceId": "spare"}
    step = compose(inputMappings={"a": "$.far.go"}, onError=on_error, **delay)
    ran = run({"make": step, "spare": noop()}, payload, store=store)
    assert (ran.status, ran.path) == ("COMPLETED", ["make", "spare"])
    assert ran.fakes.record("make").input is None


def test_a_fallback_runs_without_the_output_of_the_failed_step():
    ran = run_call(REFUSED, onError={"fallbackStepInstanceId": "spare"})
    assert (ran.status, ran.error, ran.path) == ("COMPLETED", None, ["ask", "spare"])
    assert set(ran.outputs) == {"spare"}
    assert ran.fakes.record("ask").next_step == "spare"


def test_a_fallback_is_not_counted_as_a_transition():
    fakes = Fakes()
    fakes.http.route("GET", URL, REFUSED)
    steps = {
        "ask": call(onError={"fallbackStepInstanceId": "back"}),
        "back": compose(
            literals={"x": 1},
            inputMappings={"n": "$.tries.length"},
            outputMappings={"$.tries[0]": "$.x"},
            transitions=[{"condition": "$.enough", "nextStepInstanceId": "done"}],
            defaultNextStepInstanceId="ask",
            defaultNextMaxTransitions=8,
        ),
        "done": end(),
    }
    ran = run(steps, fakes=fakes)
    # Eight transitions back are allowed and the ninth fails; the nine fallbacks do not count.
    assert (ran.status, ran.path.count("ask")) == ("FAILED", 9)
    assert ran.error["errorDetails"]["transition"] == "back:default"


def test_a_loop_of_fallbacks_ends(caplog):
    ran = run_call(REFUSED, onError={"fallbackStepInstanceId": "ask"})
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert tries(ran) == 1001
    assert "its fallback leads back to it" in caplog.text


@pytest.mark.parametrize(
    ("step", "runs"),
    [
        (noop(**then("loop")), 6),
        (noop(defaultNextMaxTransitions=2, **then("loop")), 3),
        (noop(transitions=[{"condition": "$.steps_output.loop", "nextStepInstanceId": "loop"}]), 6),
        (
            noop(
                transitions=[
                    {"condition": "$.steps_output.loop", "nextStepInstanceId": "loop", "maxTransitions": 1}
                ]
            ),
            2,
        ),
    ],
)
def test_a_transition_that_exceeds_its_limit_fails_the_flow(step, runs):
    ran = run({"loop": step})
    assert (ran.status, len(ran.path)) == ("FAILED", runs)
    assert ran.error["errorName"] == "PermanentStepError"
    assert "maxTransitions" in ran.error["errorDetails"]


def test_each_transition_has_its_own_count():
    steps = {
        "loop": noop(
            transitions=[
                {"condition": "$.never", "nextStepInstanceId": "loop"},
                {"condition": "$.also", "nextStepInstanceId": "loop", "maxTransitions": 3},
            ],
            defaultNextMaxTransitions=1,
            **then("other"),
        ),
        "other": compose(literals={"x": 1}, outputMappings={"$.also": "$.x"}, **then("loop")),
    }
    ran = run(steps)
    assert ran.path == ["loop", "other", *["loop"] * 4]
    assert ran.error["errorDetails"]["transition"] == "loop:1"


def test_zero_means_unlimited():
    steps = {
        "loop": compose(
            inputMappings={"list": "$.list"},
            literals={"one": 1},
            outputMappings={"$.list[50]": "$.one"},
            defaultNextMaxTransitions=0,
            **then("fill"),
        ),
        "fill": compose(
            inputMappings={"n": "$.steps_output.fill.m"},
            literals={"m": "{{n}}1"},
            transitions=[{"condition": "$.steps_output.fill.m.length > 20", "nextStepInstanceId": "done"}],
            defaultNextMaxTransitions=0,
            **then("loop"),
        ),
        "done": end(),
    }
    ran = run(steps)
    assert (ran.status, ran.path.count("fill")) == ("COMPLETED", 21)


def test_after_a_limit_the_output_is_kept_and_the_fallback_runs():
    on_error = {"continueOnFailure": True, "fallbackStepInstanceId": "spare"}
    steps = {
        "loop": compose(literals={"a": 1}, defaultNextMaxTransitions=1, onError=on_error, **then("loop")),
        "spare": noop(),
    }
    ran = run(steps)
    assert (ran.status, ran.path) == ("COMPLETED", ["loop", "loop", "spare"])
    assert ran.outputs["loop"] == {"a": 1}


def test_the_limit_also_applies_to_a_step_that_continues_after_a_failure():
    on_error = {"continueOnFailure": True}
    ran = run_call(REFUSED, onError=on_error, **then("ask"))
    assert (ran.status, tries(ran)) == ("FAILED", 6)
    assert "maxTransitions" in ran.error["errorDetails"]


def test_an_error_names_its_location():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/0", FINE)
    fakes.http.route("GET", "https://api.test/1", REFUSED)
    steps = {"fan": fork(), "work": call("https://api.test/{{currentItem}}")}
    ran = run(steps, {"items": [0, 1]}, fakes=fakes)
    assert set(ran.error) == {"errorName", "errorMessage", "errorDetails", "isRetryable"}
    assert ran.error["errorName"] == "ParallelBranchExecutionError"
    details = ran.error["errorDetails"]
    assert details["failedStepInstanceId"] == "fan"
    assert (details["failedBranchCount"], details["branchCount"]) == (1, 2)
    inner = details["branchErrors"][0]["error"]["errorDetails"]
    assert (inner["failedStepInstanceId"], inner["branchId"], inner["itemIndex"]) == ("work", "b", 1)


@pytest.mark.parametrize("on_error", [{}, {"onError": {"retries": {"count": 1}}}])
def test_an_unexpected_error_of_a_handler_becomes_a_step_error_and_its_traceback_is_logged(caplog, on_error):
    caplog.set_level(logging.DEBUG, "airflow_allma.engine")
    ran = run_call(ZeroDivisionError("of my own"), **on_error)
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"] == "ZeroDivisionError: of my own"
    (logged,) = [one for one in caplog.records if one.exc_info]
    assert logged.levelno == logging.DEBUG
    assert isinstance(logged.exc_info[1], ZeroDivisionError)


def test_a_fork_is_retried_as_its_retries_say():
    fakes = Fakes()
    fakes.http.route("GET", URL, REFUSED, FINE)
    retries = {"onError": {"retries": {"count": 2, "intervalSeconds": 3}}}
    ran = run({"fan": fork(**retries), "work": call()}, {"items": [1]}, fakes=fakes)
    assert (ran.status, fakes.sleeps, fakes.record("fan").tries) == ("COMPLETED", [3.0], 2)
    assert len(ran.outputs["fan"]["aggregatedData"]) == 1


def routed(step, error, *, last_try=True, payload=None, **services):
    """Call ``fail_step`` for a fork that failed elsewhere."""
    program = program_of({"fan": step, "work": noop(), "next": noop(**then("fan")), "spare": noop()})
    state = RunState("fan", {"steps_output": {}, **(payload or {})})
    fakes = Fakes()
    ended = asyncio.run(
        fail_step(
            program, state, "fan", error, info=INFO, services=fakes.services(**services), last_try=last_try
        )
    )
    return ended, fakes


@pytest.mark.parametrize(
    ("on_error", "error", "last_try", "status", "next_step"),
    [
        (None, PermanentStepError("no"), True, "FAILED", "fan"),
        ({"fallbackStepInstanceId": "spare"}, PermanentStepError("no"), True, "LEFT", "spare"),
        ({"retries": {"count": 1}}, TransientStepError("no"), False, "RETRY", "fan"),
        ({"retries": {"count": 1}}, PermanentStepError("no"), False, "FAILED", "fan"),
        ({"retries": {"count": 1}}, TransientStepError("no"), True, "FAILED", "fan"),
        ({"continueOnFailure": True}, ContentBasedRetryableError("no"), True, "LEFT", "next"),
    ],
)
def test_a_step_that_failed_elsewhere_is_handled_like_any_step(on_error, error, last_try, status, next_step):
    step = fork(**then("next"), **({"onError": on_error} if on_error else {}))
    ended, fakes = routed(step, error, last_try=last_try)
    assert (ended.status.value, ended.next_step) == (status, next_step)
    assert ended.state.path == ([] if status == "RETRY" else ["fan"])
    assert fakes.record("fan").error["errorDetails"]["failedStepInstanceId"] == "fan"


def pointed(key="o.json"):
    store = MemoryStore()
    store.write(Pointer("bucket", "o.json"), b'{"go": true}', content_type="application/json")
    return store, {"far": Pointer("bucket", key).wrap()}


ON_POINTER = {
    "onError": {"continueOnFailure": True, "fallbackStepInstanceId": "spare"},
    "transitions": [{"condition": "$.far.go", "nextStepInstanceId": "next"}],
}


def test_the_transition_after_an_error_may_need_a_pointer():
    store, payload = pointed()
    ended, fakes = routed(fork(**ON_POINTER), PermanentStepError("no"), payload=payload, store=store)
    assert (ended.next_step, ended.state.path, len(fakes.records)) == ("next", ["fan"], 1)
    # The same for a step that failed here, whether it waits or not.
    broken = {"moduleIdentifier": "system/date-time-calculator", "stepType": "DATA_TRANSFORMATION"}
    for delay in ({}, {"delay": {"milliseconds": 1}}):
        steps = {"work": {**broken, **ON_POINTER, **delay}, "next": noop(), "spare": noop()}
        ran = run(steps, payload, store=store)
        assert (ran.status, ran.path) == ("COMPLETED", ["work", "next"])
        assert [one.step_id for one in ran.fakes.records] == ["work", "next"]


def test_a_transition_whose_pointer_cannot_be_loaded_leads_to_the_fallback():
    store, payload = pointed("gone.json")
    ended, _ = routed(fork(**ON_POINTER), PermanentStepError("no"), payload=payload, store=store)
    assert (ended.status.value, ended.next_step) == ("LEFT", "spare")


def test_a_condition_that_cannot_be_evaluated_after_an_error_fails_the_step():
    ways = [{"condition": "$.list[$.no.such]", "nextStepInstanceId": "next"}]
    ran = run_call(REFUSED, onError={"continueOnFailure": True}, transitions=ways)
    assert (ran.status, ran.path) == ("FAILED", ["ask"])
    assert "$.no.such" in ran.error["errorMessage"]
