from __future__ import annotations

import json

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_fake import json_response
from airflow_allma.engine.secrets import Secrets
from tests.support.engine import Fakes, compose
from tests.support.moto import EndpointClients
from tests.support.own_modules import own, problems, run_external


@pytest.mark.parametrize(
    ("external", "message"),
    [
        ("nonsense", "[allma] external_modules must be a JSON object"),
        ("[]", "[allma] external_modules must be a JSON object"),
        ({"acme/x": 7}, 'must be {"lambdaArn"'),
        ({"acme/x": {}}, 'must be {"lambdaArn"'),
        ({"acme/x": {"lambdaArn": "f", "path": "/x"}}, 'must be {"lambdaArn"'),
        ({"acme/x": {"arn": "f"}}, 'must be {"lambdaArn"'),
        ({"acme/x": {"lambdaArn": 7}}, "has a lambdaArn that is not a string"),
        ({"acme/x": {"connection": "api", "path": "x"}}, "needs a path that begins with '/'"),
        ({"acme/x": {"connection": "api", "path": "/{{x}}"}}, "cannot be a template"),
        ({"acme/x": {"url": "ftp://x"}}, "needs a URL that begins with https://"),
        ({"acme/x": {"url": "https://x", "timeoutSeconds": 0}}, "timeoutSeconds"),
        ({"acme/y": {"url": "https://x"}}, "did you mean 'acme/y'?"),
    ],
)
def test_a_wrong_setting_is_an_error_of_the_flows_that_use_it(tmp_path, external, message):
    text = external if isinstance(external, str) else json.dumps(external)
    ((path, found),) = problems(tmp_path, own("acme/x"), text)
    assert path == "$.steps.own.moduleIdentifier"
    assert message in found
    assert problems(tmp_path, compose(), text) == []


class OneConnection:
    def connection(self, conn_id):
        return ConnectionSecret(
            conn_id, "http", "https://acme.test/v2", password="t0ken", extra={"auth": "bearer"}
        )

    def variable(self, name):
        raise AssertionError(name)

    def hide(self, values):
        del values


@pytest.mark.parametrize(
    ("entry", "url", "token"),
    [
        ({"connection": "acme", "path": "/score"}, "https://acme.test/v2/score", "Bearer t0ken"),
        ({"url": "https://open.test/score"}, "https://open.test/score", None),
        ("https://open.test/score", "https://open.test/score", None),
    ],
)
def test_an_http_service_gets_the_documented_request(entry, url, token):
    fakes = Fakes()
    fakes.http.route("POST", url, json_response({"outputData": {"score": 7}}))
    step = own(
        "acme/score", customConfig={"limit": "$.limit"}, inputMappings={"age": "$.age"}, displayName="Score"
    )
    ran = run_external(
        step, {"acme/score": entry}, {"age": 40, "limit": 5}, fakes=fakes, secrets=Secrets(OneConnection())
    )
    assert ran.outputs["own"] == {"score": 7}
    (request,) = fakes.http.requests
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers.get("Authorization") == token
    body = request.json()
    assert body["stepInput"] == {"age": 40}
    assert body["stepDefinition"] == {
        "stepType": "CUSTOM_LOGIC",
        "stepInstanceId": "own",
        "moduleIdentifier": "acme/score",
        "customConfig": {"limit": 5},
        "inputMappings": {"age": "$.age"},
        "displayName": "Score",
    }
    assert body["runtimeState"]["flowDefinitionId"] == "shop"
    assert body["runtimeState"]["flowExecutionId"] == "run-1"
    assert body["runtimeState"]["currentStepInstanceId"] == "own"
    assert body["runtimeState"]["currentContextData"]["age"] == 40
    assert "t0ken" not in json.dumps(body)
    (line,) = ran.fakes.record("own").calls.lines()
    assert line.startswith(f"200 from POST {url}")


def test_the_state_of_the_run_in_a_request_counts_tries():
    url = "https://a.test/x"
    fakes = Fakes()
    fakes.http.route("POST", url, json_response({}, 503), json_response({"outputData": 1}))
    run_external(own("acme/x"), {"acme/x": url}, fakes=fakes)
    states = [request.json()["runtimeState"] for request in fakes.http.requests]
    assert [state["stepRetryAttempts"] for state in states] == [{}, {"own": 1}]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ({"outputData": [1]}, [1]),
        ({"outputData": None}, {}),
        ({}, {}),
        ({"outputData": 0}, {}),
        ({"outputData": []}, []),
    ],
)
def test_an_answer_without_output_is_an_empty_output(answer, output):
    fakes = Fakes()
    fakes.http.route("POST", "https://a.test/x", json_response(answer))
    step = own("acme/x", outputMappings={"$.got": "$"})
    assert run_external(step, {"acme/x": "https://a.test/x"}, fakes=fakes).context["got"] == output


@pytest.mark.parametrize(
    ("reply", "name", "message"),
    [
        (json_response([1]), "PermanentStepError", "must be an object with outputData"),
        (json_response({"e": 1}, 400), "PermanentStepError", "400 from POST"),
        (json_response({"e": 1}, 503), "TransientStepError", "503 from POST"),
    ],
)
def test_an_answer_that_is_wrong_is_an_error(reply, name, message):
    fakes = Fakes()
    fakes.http.route("POST", "https://a.test/x", reply)
    ran = run_external(own("acme/x"), {"acme/x": "https://a.test/x"}, fakes=fakes)
    assert ran.error["errorName"] == name
    assert message in ran.error["errorMessage"]


@pytest.mark.parametrize(
    ("answer", "name", "message"),
    [
        (b'{"outputData": {"score": 7}}', None, ""),
        (b"[]", "PermanentStepError", "must be an object with outputData"),
        (None, "ResourceNotFoundException", "[allma] external_modules, 'acme/score'"),
    ],
)
def test_a_lambda_function_gets_the_documented_request(fake_lambda, answer, name, message):
    function = "missing" if answer is None else "score"
    if answer is not None:
        fake_lambda.answer(function, (200, {}, answer))
    ran = run_external(
        own("acme/score", inputMappings={"age": "$.age"}),
        {"acme/score": {"lambdaArn": function}},
        {"age": 40},
        aws=EndpointClients(fake_lambda.url),
    )
    if name is not None:
        assert ran.error["errorName"] == name
        assert message in ran.error["errorMessage"]
        return
    assert ran.outputs["own"] == {"score": 7}
    (payload,) = fake_lambda.payloads(function)
    assert payload["stepInput"] == {"age": 40}
    assert payload["runtimeState"]["currentStepInstanceId"] == "own"
    assert set(payload) == {"stepDefinition", "stepInput", "runtimeState"}
