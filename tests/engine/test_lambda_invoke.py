"""CUSTOM_LAMBDA_INVOKE: what is sent, what comes back, and every error."""

from __future__ import annotations

import logging

import pytest

from airflow_allma.common.aws_clients import EnvironmentAws, client_config
from airflow_allma.engine import EngineSettings
from airflow_allma.engine.steps.lambda_invoke import MAX_EVENT_BYTES, MAX_PAYLOAD_BYTES
from airflow_allma.storage import MemoryStore, Pointer
from airflow_allma.storage.keys import OffloadLocation
from tests.support.engine import Json, run
from tests.support.fake_lambda import function_error, service_error
from tests.support.moto import EndpointClients

ARN = "arn:aws:lambda:eu-west-3:000011112222:function:quote-{{flow_variables.stage}}"
VARIABLES = {"flowVariables": {"stage": "test"}}


def invoke(
    server, payload: Json | None = None, *, arn: str = "quote", flow: Json | None = None, **step: object
):
    steps = {"a": {"stepType": "CUSTOM_LAMBDA_INVOKE", "lambdaFunctionArnTemplate": arn, **step}}
    services = {key: step.pop(key) for key in ("store",) if key in step}
    steps["a"].pop("store", None)
    return run(steps, payload, flow=flow, aws=EndpointClients(server.url), **services)


def test_a_function_gets_its_payload_and_its_result_is_the_output(fake_lambda):
    ran = invoke(
        fake_lambda,
        {"cart": {"items": 2}},
        arn=ARN,
        flow=VARIABLES,
        payloadTemplate={"basket": "$.cart", "extra": "$.none"},
        outputMappings={"$.quote": "$."},
    )
    sent = {"correlationId": "run-1", "basket": {"items": 2}}
    assert ran.context["quote"] == {"echo": sent}
    ((name, query, _, _),) = fake_lambda.requests
    assert (name, query) == ("arn:aws:lambda:eu-west-3:000011112222:function:quote-test", "")
    (call,) = ran.fakes.record("a").calls.last
    assert (call.service, call.operation, call.resource, call.error) == ("lambda", "Invoke", name, None)


def test_without_a_payload_template_the_whole_input_is_sent(fake_lambda):
    invoke(
        fake_lambda, {"n": 1}, inputMappings={"n": "$.n"}, literals={"m": "{{n}}"}, moduleIdentifier="acme/x"
    )
    assert fake_lambda.payloads("quote") == [
        {"moduleIdentifier": "acme/x", "stepInput": {"n": 1, "m": "1"}, "correlationId": "run-1"}
    ]


@pytest.mark.parametrize(
    ("config", "sent"),
    [({}, {"_s3_output_pointer": {"bucket": "b", "key": "k"}}), ({"hydrateInputFromS3": True}, {"big": 1})],
)
def test_pointers_in_the_input_are_sent_as_they_are_unless_the_step_says_otherwise(fake_lambda, config, sent):
    store = MemoryStore()
    store.write(Pointer("b", "k"), b'{"big": 1}', content_type="application/json")
    payload = {"doc": {"_s3_output_pointer": {"bucket": "b", "key": "k"}}}
    invoke(fake_lambda, payload, inputMappings={"in.doc": "$.doc"}, customConfig=config, store=store)
    assert fake_lambda.payloads("quote")[0]["stepInput"] == {"in": {"doc": sent}}


def test_a_payload_template_loads_pointers(fake_lambda):
    store = MemoryStore()
    store.write(Pointer("b", "k"), b'{"big": 1}', content_type="application/json")
    payload = {"doc": {"_s3_output_pointer": {"bucket": "b", "key": "k"}}}
    invoke(fake_lambda, payload, payloadTemplate={"doc": "$.doc"}, store=store)
    assert fake_lambda.payloads("quote") == [{"correlationId": "run-1", "doc": {"big": 1}}]


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b"[1, 2]", [1, 2]),
        (b'"text"', "text"),
        (b"7", 7),
        (b"null", {}),
        (b"", {}),
        (b'{"a": null}', {"a": None}),
    ],
)
def test_any_json_value_can_be_returned(fake_lambda, body, output):
    fake_lambda.answer("quote", (200, {}, body))
    assert invoke(fake_lambda).outputs["a"] == output


def test_an_asynchronous_call_does_not_wait(fake_lambda):
    ran = invoke(fake_lambda, customConfig={"invocationType": "Event", "qualifier": "live"})
    assert ran.outputs["a"] == {"statusCode": 202}
    ((_, query, headers, _),) = fake_lambda.requests
    assert (query, headers["X-Amz-Invocation-Type"]) == ("Qualifier=live", "Event")


def test_the_end_of_the_functions_log_goes_to_the_log(fake_lambda, caplog):
    with caplog.at_level(logging.INFO, "airflow_allma.engine"):
        invoke(fake_lambda, customConfig={"logType": "Tail"})
    lines = [record.getMessage() for record in caplog.records if "log of Lambda" in record.getMessage()]
    assert lines[1] == r"hello \x1b[1m from the function (log of Lambda function quote)"
    assert len(lines) == 3


REJECTED = {"errorType": "OrderRejected", "errorMessage": "no stock", "trace": ["at a", "at b"]}


def test_the_error_of_a_function_is_permanent_and_has_its_own_name(fake_lambda):
    fake_lambda.answer("quote", function_error(REJECTED))
    error = invoke(fake_lambda).error
    assert (error["errorName"], error["isRetryable"]) == ("OrderRejected", False)
    assert error["errorMessage"] == "Lambda function 'quote' failed: OrderRejected: no stock"
    details = error["errorDetails"]
    assert (details["errorType"], details["errorMessage"], details["trace"]) == (
        "OrderRejected",
        "no stock",
        ["at a", "at b"],
    )
    assert len(fake_lambda.requests) == 1


@pytest.mark.parametrize(("names", "calls"), [(["OrderRejected"], 3), (["Other"], 1), (None, 1)])
def test_the_error_of_a_function_is_retried_if_error_equals_names_it(fake_lambda, names, calls):
    fake_lambda.answer("quote", function_error(REJECTED))
    retries = {"count": 2, "intervalSeconds": 1, **({"errorEquals": names} if names else {})}
    ran = invoke(fake_lambda, onError={"retries": retries})
    assert ran.status == "FAILED"
    assert len(fake_lambda.requests) == calls


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        (
            {"errorMessage": "Task timed out after 3.00 seconds"},
            "PermanentStepError",
            "Unhandled: Task timed out",
        ),
        ("just text", "PermanentStepError", "Unhandled: just text"),
        (b"not json", "PermanentStepError", "Unhandled: not json"),
        (b"", "PermanentStepError", "Unhandled: null"),
        ({"errorType": "X", "errorMessage": {"a": 1}, "stackTrace": "no list"}, "X", 'X: {"a":1}'),
        ({"errorType": "X", "errorMessage": "m" * 9000, "trace": ["t" * 9000] * 90}, "X", "X: mmm"),
        ({"errorType": 5, "errorMessage": "m"}, "PermanentStepError", "Unhandled: m"),
    ],
    ids=["timeout", "string", "not-json", "empty", "object", "long", "number"],
)
def test_errors_of_every_form_are_reported_within_bounds(fake_lambda, body, name, message):
    fake_lambda.answer("quote", function_error(body))
    error = invoke(fake_lambda).error
    assert error["errorName"] == name
    assert message in error["errorMessage"]
    assert len(str(error)) < 50_000


@pytest.mark.parametrize(
    ("response", "name", "calls"),
    [
        (service_error(429, "TooManyRequestsException"), "TransientStepError", 5),
        (service_error(500, "ServiceException"), "TransientStepError", 5),
        (service_error(502, "ENILimitReachedException"), "TransientStepError", 5),
        (service_error(404, "ResourceNotFoundException"), "ResourceNotFoundException", 1),
        (service_error(400, "InvalidRequestContentException"), "InvalidRequestContentException", 1),
        (service_error(403, "AccessDeniedException"), "AccessDeniedException", 1),
        ((200, {}, b"<html>"), "PermanentStepError", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_error_of_the_service_is_transient_or_permanent(fake_lambda, response, name, calls):
    fake_lambda.answer("quote", response)
    ran = invoke(fake_lambda)
    assert (ran.error["errorName"], len(fake_lambda.requests)) == (name, calls)


def test_throttling_passes(fake_lambda):
    fake_lambda.answer("quote", service_error(429, "TooManyRequestsException"), (200, {}, b'"ok"'))
    ran = invoke(fake_lambda)
    assert ran.outputs["a"] == "ok"
    assert [call.error for call in ran.fakes.record("a").calls.last] == ["TooManyRequestsException", None]


def test_an_unknown_function_names_function_connection_and_setting(fake_lambda):
    error = invoke(fake_lambda, arn="missing").error
    for part in ("'missing'", "test connection 'moto'", "`lambdaFunctionArnTemplate`", "[allma] aws_conn_id"):
        assert part in error["errorMessage"]


def test_a_lost_connection_is_transient():
    class Nobody:
        url = "http://127.0.0.1:1"

    ran = invoke(Nobody)
    assert ran.error["errorName"] == "TransientStepError"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"arn": "{{none}}"}, "is not the name or the ARN of a Lambda function"),
        ({"arn": "a b"}, "is not the name or the ARN"),
        ({"arn": "arn:aws:sqs:eu-west-3:1:q"}, "is not the name or the ARN"),
        ({"arn": "../../2015-03-31/functions"}, "is not the name or the ARN"),
        ({"customConfig": {"invocationType": "DryRun"}}, "invocationType must be"),
        ({"customConfig": {"logType": "All"}}, "logType must be"),
        ({"customConfig": {"qualifier": 3}}, "qualifier must be"),
        ({"customConfig": {"hydrateInputFromS3": "{{yes}}"}}, "hydrateInputFromS3 must be"),
    ],
)
def test_bad_settings_are_permanent_errors_before_the_call(fake_lambda, step, message):
    error = invoke(fake_lambda, **step).error
    assert error["errorName"] == "PermanentStepError"
    assert message in error["errorMessage"]
    assert fake_lambda.requests == []


@pytest.mark.parametrize(
    ("config", "size", "fits"),
    [
        ({}, MAX_PAYLOAD_BYTES, True),
        ({}, MAX_PAYLOAD_BYTES + 1, False),
        ({"invocationType": "Event"}, MAX_EVENT_BYTES, True),
        ({"invocationType": "Event"}, MAX_EVENT_BYTES + 1, False),
    ],
)
def test_a_payload_may_be_as_large_as_lambda_accepts(fake_lambda, config, size, fits):
    fake_lambda.answer("quote", (202 if config else 200, {}, b""))
    around = len('{"correlationId":"run-1","x":""}')
    ran = invoke(fake_lambda, {"x": "a" * (size - around)}, payloadTemplate={"x": "$.x"}, customConfig=config)
    assert [len(payload) for *_, payload in fake_lambda.requests] == ([size] if fits else [])
    if not fits:
        assert "Send a pointer" in ran.error["errorMessage"]


def test_broken_unicode_in_the_payload_is_an_error(fake_lambda):
    assert (
        "broken Unicode"
        in invoke(fake_lambda, {"x": "\ud800"}, payloadTemplate={"x": "$.x"}).error["errorMessage"]
    )


def test_large_results_are_offloaded_like_those_of_any_step(fake_lambda):
    fake_lambda.answer("quote", (200, {}, b'{"big": "' + b"x" * 20_000 + b'"}'))
    store = MemoryStore()
    settings = EngineSettings(offload_location=OffloadLocation("b"))
    step = {"stepType": "CUSTOM_LAMBDA_INVOKE", "lambdaFunctionArnTemplate": "quote"}
    ran = run({"a": step}, aws=EndpointClients(fake_lambda.url), store=store, settings=settings)
    assert "_s3_output_pointer" in ran.outputs["a"]
    kept = run(
        {"a": {**step, "disableS3Offload": True}},
        aws=EndpointClients(fake_lambda.url),
        store=store,
        settings=settings,
    )
    assert len(kept.outputs["a"]["big"]) == 20_000


def test_a_client_waits_as_long_as_a_function_can_run(monkeypatch):
    from botocore.config import Config

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    config = EnvironmentAws(100).client("lambda", retries=False).meta.config
    assert (config.read_timeout, config.max_pool_connections) == (910, 100)
    assert EnvironmentAws(5).client("sqs").meta.config.max_pool_connections == 10
    own = client_config(
        Config(read_timeout=5, max_pool_connections=3), "lambda", retries=True, connections=64
    )
    assert (own.read_timeout, own.max_pool_connections) == (5, 3)
