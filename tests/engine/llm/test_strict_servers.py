"""The clients against servers that check requests as their vendors document them, and fail on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.llm.model_request import FinishReason, RateLimitedError, ToolCall
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from demo.model_servers import Behaviour, CalledTool, Limit, running_models
from tests.support.model_calls import KEY, ModelCalls
from tests.support.moto import EndpointClients

KINDS = ("OPENAI", "AZURE", "ANTHROPIC", "GEMINI", "VERTEX", "AWS_BEDROCK")
FOLDER = Path(__file__).parent


@pytest.fixture
def client(models, private_key):
    """Returns what calls the fake models of a vendor."""

    def make(kind):
        if kind == "AWS_BEDROCK":
            return ModelCalls(kind, None, AiohttpClient(), {"aws": EndpointClients(models.url)})
        account = {
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": "k1",
            "private_key": private_key,
            "client_email": "models@acme.iam.gserviceaccount.com",
            "token_uri": f"{models.url}/token",
        }
        provider, connection = {
            "OPENAI": ("OPENAI", {"host": f"{models.url}/v1"}),
            "AZURE": ("OPENAI", {"host": models.url, "extra": {"api_type": "azure"}}),
            "VERTEX": (
                "GEMINI",
                {"kind": "google_cloud_platform", "host": models.url, "extra": {"keyfile_dict": account}},
            ),
        }.get(kind, (kind, {"host": models.url}))
        return ModelCalls(provider, connection, AiohttpClient())

    return make


def cases():
    found = []
    for name in ("request_cases.json", "bedrock_cases.json"):
        for case in json.loads((FOLDER / name).read_text()):
            kind = "AZURE" if "Azure" in case["name"] else case.get("provider", "AWS_BEDROCK")
            # The servers have no tuned models, and profiles have slashes in their names.
            if "/" not in case["request"].get("model", ""):
                found.append(pytest.param(kind, case["request"], id=case["name"]))
    return found


@pytest.mark.parametrize(("kind", "request_"), cases())
def test_a_strict_server_accepts_each_request(client, kind, request_):
    answer = client(kind).send(request_)
    functions = [tool for tool in request_.get("tools", ()) if tool["type"] == "function"]
    if functions and request_.get("toolChoice", "auto") not in ("auto", "none"):
        assert [call.name for call in answer.tool_calls] == [functions[0]["name"]]
    else:
        assert (answer.text, answer.finish) == ("OK", FinishReason.STOP)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize("kind", KINDS)
def test_functions_refusals_and_cut_answers_are_understood(client, models, kind):
    function = {"type": "function", "name": "find", "description": "Finds.", "parameters": {"type": "object"}}
    calls = client(kind)
    models.configure(
        tools=Behaviour(tool_calls=(CalledTool(name="find", args={"q": [1]}),)),
        refuses=Behaviour(blocked="answer"),
        declines=Behaviour(refusal="I cannot."),
        prompt=Behaviour(blocked="prompt"),
        long=Behaviour(answer="one two three", max_words=2),
    )
    answer = calls.send(model="tools", tools=[function])
    assert answer.finish is FinishReason.TOOL_CALLS
    assert [(call.name, call.args) for call in answer.tool_calls] == [("find", {"q": [1]})]
    assert isinstance(answer.tool_calls[0], ToolCall)
    refused = calls.send(model="refuses")
    assert refused.finish is FinishReason.REFUSED
    assert refused.refusal
    if kind == "OPENAI":
        assert calls.send(model="declines").refusal == "I cannot."
    assert calls.send(model="long").finish is FinishReason.LENGTH
    if kind in {"AZURE", "GEMINI", "VERTEX"}:
        assert calls.send(model="prompt").finish is FinishReason.REFUSED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (400, PermanentStepError),
        (403, PermanentStepError),
        (404, PermanentStepError),
        (429, RateLimitedError),
        (500, TransientStepError),
        (503, TransientStepError),
        ("cut", TransientStepError),
        ("reset", TransientStepError),
        ("html", PermanentStepError),
        ("empty", PermanentStepError),
        ("garbage", PermanentStepError),
    ],
)
def test_each_failure_is_the_right_error_and_shows_no_key(client, models, kind, outcome, error):
    models.configure(broken=Behaviour(outcomes=(outcome,), echo_key=True))
    calls = client(kind)
    failure = calls.failure(model="broken")
    assert type(failure) is error
    for secret in (KEY, "ya29."):
        assert secret not in f"{failure.message}{failure.details}"
    assert calls.calls.count == 1
    assert models.stats["calls"] == 1


def test_a_wrong_key_is_an_error_that_shows_no_part_of_it(client):
    with running_models(key="another-key") as server:
        for provider, path in (("OPENAI", "/v1"), ("ANTHROPIC", ""), ("GEMINI", "")):
            calls = ModelCalls(provider, {"host": server.url + path}, AiohttpClient())
            error = calls.failure()
            assert error.error_name == "ModelAuthenticationError"
            assert KEY[:5] not in error.message
            assert KEY[-4:] not in error.message


@pytest.mark.parametrize("kind", ["OPENAI", "ANTHROPIC"])
def test_answers_and_429_responses_report_the_rate_limits(client, models, kind):
    models.configure(limited=Behaviour(limit=Limit(requests=1, seconds=30, headers=True)))
    calls = client(kind)
    limits = calls.send(model="limited").limits
    assert (limits.requests.limit, limits.requests.remaining) == (1, 0)
    assert 0 < limits.requests.reset_seconds <= 31
    error = calls.failure(model="limited")
    assert error.limits.requests.remaining == 0
    assert 0 < error.retry_after <= 31
