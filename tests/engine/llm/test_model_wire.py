"""Requests to providers and their answers, field by field, from tables of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.http_response import HttpResponse
from tests.support.model_calls import KEY, OK, ModelCalls, answer_as_json


def cases(name):
    return [
        pytest.param(one, id=one["name"]) for one in json.loads(Path(__file__).with_name(name).read_text())
    ]


def replying(provider, *replies, **fields):
    return ModelCalls(provider, http=FakeHttpClient().route("POST", "http*", *replies), **fields)


@pytest.mark.parametrize("case", cases("request_cases.json"))
def test_a_request_is_sent_as_the_provider_documents_it(case):
    calls = replying(
        case["provider"], json_response(OK[case["provider"]]), connection=case.get("connection", {})
    )
    assert calls.send(case["request"]).text == "Hi"
    (sent,) = calls.http.requests
    assert sent.json() == case["body"]
    assert sent.method == "POST"
    if "url" in case:
        assert sent.url == case["url"]
    if "headers" in case:
        assert sent.headers == case["headers"]
    assert KEY not in sent.url
    (line,) = calls.calls.lines()
    assert line.startswith(f"200 from POST {sent.url} in ")
    assert not calls.log


@pytest.mark.parametrize("case", cases("response_cases.json"))
def test_an_answer_is_read_as_the_provider_documents_it(case):
    reply = json_response(case["body"], case.get("status", 200), case.get("headers"))
    answer = answer_as_json(replying(case["provider"], reply).send())
    assert json.loads(json.dumps(answer)) == case["answer"]


@pytest.mark.parametrize(
    ("provider", "parameter", "field"), [("OPENAI", {"topK": 3}, "topK"), ("ANTHROPIC", {"seed": 1}, "seed")]
)
def test_a_parameter_that_the_provider_lacks_is_a_warning_once_for_each_model(provider, parameter, field):
    calls = replying(provider, json_response(OK[provider]))
    for model in ("a", "a", "b"):
        calls.send(model=model, parameters=parameter)
    calls.send(model="c")
    assert [line.split(" has no")[0] for line in calls.log] == [f"inferenceParameters.{field}"] * 2
    assert [line.split()[-1] for line in calls.log] == ["a", "b"]


def test_half_an_emoji_at_the_end_of_an_answer_is_replaced():
    body = b'{"choices": [{"message": {"content": "ab\\ud83d"}, "finish_reason": "length"}]}'
    assert replying("OPENAI", HttpResponse(200, {}, body)).send().text == "ab\ufffd"


def test_a_prompt_with_broken_unicode_is_not_sent():
    calls = replying("OPENAI", json_response(OK["OPENAI"]))
    assert "broken Unicode" in calls.failure(prompt="a\ud83d").message
    assert not calls.http.requests


@pytest.mark.parametrize(
    ("extra", "config", "seconds"),
    [({}, {}, 600), ({"timeout": 7}, {}, 7), ({"timeout": 7}, {"timeoutMs": 1500}, 1.5)],
)
def test_the_time_limit_is_that_of_the_step_else_of_the_connection(extra, config, seconds):
    calls = replying("OPENAI", json_response(OK["OPENAI"]), connection={"extra": extra})
    calls.send(config=config)
    assert calls.http.requests[0].timeout == seconds
