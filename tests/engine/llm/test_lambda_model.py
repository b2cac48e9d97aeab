"""Models called through a Lambda function: request, answer and errors."""

from __future__ import annotations

import json

import pytest

from airflow_allma.engine.llm.model_request import RateLimitedError
from airflow_allma.exceptions import PermanentStepError
from tests.support.fake_lambda import fake_lambda, function_error, service_error
from tests.support.model_calls import ModelCalls, answer_as_json
from tests.support.moto import EndpointClients

__all__ = ["fake_lambda"]


def answers(value):
    return 200, {}, json.dumps(value).encode()


def models(server):
    return ModelCalls("CUSTOM_LAMBDA", None, services={"aws": EndpointClients(server.url)})


def test_the_function_gets_the_whole_request(fake_lambda):
    fake_lambda.answer("ask", answers({"outputData": {"text": "Hi"}}))
    function = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    models(fake_lambda).send(
        model="ask",
        json=True,
        media=[["image/png", "AAEC"]],
        tools=[function, {"type": "web_search", "config": {"a": 1}}],
        toolChoice={"type": "function", "name": "f"},
        parameters={"temperature": 0, "seed": 3},
    )
    models(fake_lambda).send(model="ask", toolChoice="none")
    first, second = fake_lambda.payloads("ask")
    assert first == {
        "stepInput": {
            "modelId": "ask",
            "prompt": "Hello",
            "inferenceParameters": {
                "temperature": 0,
                "maxOutputTokens": 16000,
                "topP": 0.95,
                "topK": 40,
                "seed": 3,
            },
            "jsonOutputMode": True,
            "media": [{"mimeType": "image/png", "data": "AAEC"}],
            "tools": [function, {"type": "web_search", "config": {"a": 1}}],
            "toolChoice": {"type": "function", "name": "f"},
        },
        "correlationId": "run-1",
    }
    parameters = {"temperature": 0.7, "maxOutputTokens": 16000, "topP": 0.95, "topK": 40}
    assert second["stepInput"] == {
        "modelId": "ask",
        "prompt": "Hello",
        "inferenceParameters": parameters,
        "jsonOutputMode": False,
        "media": [],
        "tools": [],
        "toolChoice": "none",
    }


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            {"text": "Hi", "usage": {"inputTokens": 7, "outputTokens": 11}},
            {
                "text": "Hi",
                "finish": "stop",
                "usage": {"input_tokens": 7, "output_tokens": 11, "cached_tokens": 0},
            },
        ),
        ({"llm_response": "Hi"}, {"text": "Hi", "finish": "stop"}),
        ({"llm_response": {"a": 1}}, {"text": '{"a":1}', "finish": "stop"}),
        ({}, {"finish": "stop"}),
        (
            {"tool_calls": [{"id": 1, "name": "f", "args": {"a": 1}}, {"name": "g"}]},
            {
                "finish": "tool_calls",
                "tool_calls": (
                    {"name": "f", "args": {"a": 1}, "id": "1"},
                    {"name": "g", "args": {}, "id": None},
                ),
            },
        ),
    ],
)
def test_the_output_of_the_function_becomes_the_answer(fake_lambda, output, expected):
    fake_lambda.answer("ask", answers({"outputData": output}))
    assert answer_as_json(models(fake_lambda).send(model="ask")) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"text": "Hi"},
        {"outputData": "Hi"},
        {"outputData": {"tool_calls": "f"}},
        {"outputData": {"tool_calls": [{"args": {}}]}},
    ],
)
def test_an_answer_of_another_shape_is_an_error(fake_lambda, value):
    fake_lambda.answer("ask", answers(value))
    error = models(fake_lambda).failure(model="ask")
    assert type(error) is PermanentStepError
    assert error.message.startswith("The answer of Lambda function 'ask' must ")


def test_errors_of_the_function_and_of_lambda_become_step_errors(fake_lambda):
    calls = models(fake_lambda)
    fake_lambda.answer("ask", function_error({"errorType": "NoMoney", "errorMessage": "pay"}))
    error = calls.failure(model="ask")
    assert (error.error_name, error.message) == ("NoMoney", "Lambda function 'ask' failed: NoMoney: pay")
    fake_lambda.answer("ask", service_error(429, "TooManyRequestsException"))
    assert type(calls.failure(model="ask")) is RateLimitedError
    assert calls.failure(model="missing").error_name == "ModelNotFoundError"
    assert "modelId: 'a b' is not the name" in calls.failure(model="a b").message
