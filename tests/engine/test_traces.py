from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.aws_calls import AwsCall
from airflow_allma.engine.outside_calls import HttpCall, MailCall, OutsideCalls
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.traces import (
    MAX_TRACE_BYTES,
    MAX_TRACED_STEPS,
    TraceForm,
    bound_steps,
    shorten_step,
)

SECRET = "planted-password"


def form(max_bytes: int = 4096, *secrets: str, redact=None) -> TraceForm:
    masks = SecretMasks()
    masks.add(secrets)
    return TraceForm(masks, max_bytes, redact)


def calls(*made) -> OutsideCalls:
    all_calls = OutsideCalls()
    for call in made:
        all_calls.add(call)
    return all_calls


def test_a_step_has_its_input_output_next_step_and_calls():
    record = StepRecord(
        "fetch",
        "API_CALL",
        {"id": 7},
        {"status": 200},
        None,
        "save",
        0.1234567,
        tries=2,
        at=1767225600.51234,
        calls=calls(HttpCall("GET", "https://me:pw@o.test/7?token=t", 200, 98.26, 0, 512)),
        flow_id="child",
        within=(("fork", "each", 3),),
    )
    assert form().step(record) == {
        "step": "fetch",
        "type": "API_CALL",
        "flow": "child",
        "within": [{"fork": "fork", "branch": "each", "item": 3}],
        "input": {"id": 7},
        "output": {"status": 200},
        "next": "save",
        "tries": 2,
        "seconds": 0.123457,
        "at": 1767225600.512,
        "calls": [
            {
                "service": "http",
                "method": "GET",
                "target": "https://***@o.test/7?token=***",
                "status": 200,
                "milliseconds": 98.3,
                "sent": 0,
                "received": 512,
            }
        ],
    }


def test_a_step_that_failed_has_its_error_and_calls_of_aws_and_mail():
    error = {"errorName": "E", "errorMessage": "m", "errorDetails": {}, "isRetryable": False}
    made = calls(
        AwsCall("dynamodb", "UpdateItem", "users", "req-1", 3.0, "Throttled"),
        MailCall("m-1", tuple(f"u{number}@o.test" for number in range(7)), 4.0),
    )
    trace = form().step(StepRecord("a", "DATA_SAVE", None, None, error, None, 1.0, calls=made))
    assert (trace["input"], trace["error"], trace["next"]) == (None, error, None)
    assert "output" not in trace
    assert trace["calls"] == [
        {
            "service": "dynamodb",
            "operation": "UpdateItem",
            "target": "users",
            "milliseconds": 3.0,
            "requestId": "req-1",
            "error": "Throttled",
        },
        {
            "service": "mail",
            "operation": "send",
            "target": "u0@o.test, u1@o.test, u2@o.test, u3@o.test, u4@o.test and 2 more",
            "milliseconds": 4.0,
            "requestId": "m-1",
        },
    ]


def test_an_error_that_is_too_large_keeps_its_name_and_message_and_its_details_are_cut():
    details = {"failures": ["x" * 50] * 100, "password": SECRET}
    error = {"errorName": "E", "errorMessage": "m", "errorDetails": details, "isRetryable": False}
    trace = form(200).step(StepRecord("a", "NO_OP", None, None, error, None, 1.0))
    cut = trace["error"]["errorDetails"]
    assert trace["error"] == {**error, "errorDetails": cut}
    assert (len(cut["$cut"]), cut["$bytes"] > 5000) == (200, True)
    shortened = shorten_step(trace, 100)["error"]
    assert shortened == {**error, "errorDetails": {"$cut": cut["$cut"][:100], "$bytes": cut["$bytes"]}}
    assert SECRET not in json.dumps(trace)


def test_an_error_whose_message_is_too_large_has_the_beginning_of_it():
    error = {"errorName": "E", "errorMessage": "m" * 300, "errorDetails": {}, "isRetryable": True}
    trace = form(200).step(StepRecord("a", "NO_OP", None, None, error, None, 1.0))
    assert trace["error"] == {**error, "errorMessage": {"$cut": '"' + "m" * 199, "$bytes": 302}}


def test_only_the_last_calls_are_kept_and_the_others_counted():
    made = calls(*(HttpCall("GET", f"https://o.test/{number}", 200, 1, 0, 0) for number in range(25)))
    trace = form().step(StepRecord("a", "POLL", {}, {}, None, None, 1.0, calls=made))
    assert [call["target"] for call in trace["calls"]] == [f"https://o.test/{n}" for n in range(15, 25)]
    assert trace["omittedCalls"] == 15


@pytest.mark.parametrize("size", [10, 4_000, 70_000, 2_000_000])
@pytest.mark.parametrize("where", ["before", "across", "after"])
def test_a_large_value_is_cut_and_shows_no_part_of_a_secret(size, where):
    before = {"before": 0, "across": size - 5, "after": size}[where]
    text = "." * before + SECRET + "." * (size - before)
    for value in (text, [text], {"a": {"b": text}}, {text: 1}):
        shown = form(4096, SECRET).value(value)
        assert "planted" not in json.dumps(shown)
        if size > 4096:
            assert set(shown) == {"$cut", "$bytes"}
            assert len(shown["$cut"].encode()) <= 4096
            assert size < shown["$bytes"] < size + 100


def test_a_value_of_many_secrets_shows_no_part_of_one_at_its_end():
    shown = form(4096, SECRET).value(SECRET * 100_000)
    assert "pl" not in shown["$cut"]


def test_names_that_look_secret_are_masked():
    value = {"password": "x1y2", "headers": {"Authorization": "Bearer y"}, "id": 1}
    assert form().value(value) == {"password": "***", "headers": {"Authorization": "***"}, "id": 1}


@pytest.mark.parametrize("size", [10, 3_000, 30_000, 300_000])
def test_names_that_look_secret_are_masked_in_a_body_of_any_size(size):
    body = json.dumps({"user": {"password": SECRET}, "note": "x" * size, "token": SECRET})
    for value in (body, {"body": body}, {"messages": [body]}):
        shown = json.dumps(form(2048).value(value))
        assert "***" in shown
        assert SECRET not in shown


def test_a_name_is_kept_before_a_value_that_is_cut_so_that_it_can_be_masked():
    shown = form(2048).value({"token": SECRET * 10_000, "after": 1})
    assert shown["$cut"] == '{"token":"***"}'


def test_what_airflow_masks_is_masked_at_any_depth_and_in_keys_and_targets():
    def redact(value):
        # As Airflow's: a few levels of objects, and any text.
        return value.replace("airflow-planted", "***") if isinstance(value, str) else value

    value = {"a": [{"b": "x airflow-planted"}], "airflow-planted": 1}
    masked = form(redact=redact)
    assert masked.value(value) == {"a": [{"b": "x ***"}], "***": 1}
    made = calls(HttpCall("GET", "https://o.test/airflow-planted", 200, 1, 0, 0))
    trace = masked.step(StepRecord("a", "API_CALL", {}, {}, None, None, 1.0, calls=made))
    assert trace["calls"][0]["target"] == "https://o.test/***"


def test_secrets_that_become_known_later_are_masked_also_where_a_value_was_cut():
    masks = SecretMasks()
    made = TraceForm(masks, 20)
    early = [made.value({"a": SECRET}), made.value("x" * 12 + SECRET)]
    masks.add([SECRET])
    assert "plan" not in json.dumps(made.mask_again(early))


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("\ud800")),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=30,
)


@given(ANY, st.integers(0, 200))
def test_any_value_is_bounded_json(value, max_bytes):
    shown = form(max_bytes).value(value)
    encoded = json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    assert len(encoded) <= 3 * max_bytes + 60


def test_a_value_that_is_nested_deeply_is_cut():
    value: object = 1
    for _ in range(5000):
        value = [value]
    assert "..." in json.dumps(form().value(value))


@given(st.lists(st.integers(0, 40_000), max_size=300), st.integers(0, 3))
def test_a_trace_keeps_its_first_and_last_steps(sizes, omitted):
    steps = [{"number": number, "text": "x" * size} for number, size in enumerate(sizes)]
    kept, now_omitted = bound_steps(steps, omitted)
    assert len(kept) + now_omitted == len(steps) + omitted
    assert len(kept) <= MAX_TRACED_STEPS
    assert kept[:1] == steps[:1]
    assert kept[-1:] == steps[-1:]
    assert [step["number"] for step in kept] == sorted({step["number"] for step in kept})
    if len(kept) > 1:
        assert sum(len(json.dumps(step)) for step in kept) <= MAX_TRACE_BYTES + 10_000
    if len(steps) <= MAX_TRACED_STEPS and sum(sizes) < MAX_TRACE_BYTES - 10_000:
        assert now_omitted == omitted
