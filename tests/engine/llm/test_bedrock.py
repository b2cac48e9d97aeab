"""Models of Bedrock against a Converse endpoint on loopback."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.engine.llm.model_request import RateLimitedError
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.json_server import json_server
from tests.support.model_calls import ModelCalls, answer_as_json
from tests.support.moto import EndpointClients

CASES = json.loads(Path(__file__).with_name("bedrock_cases.json").read_text())
USAGE = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}


def reply(*content, reason="end_turn", usage=USAGE):
    return (
        200,
        {"x-amzn-RequestId": "req-1"},
        {
            "output": {"message": {"role": "assistant", "content": list(content)}},
            "stopReason": reason,
            "usage": usage,
            "metrics": {"latencyMs": 1},
        },
    )


def refused(status, code, message="no"):
    return status, {"x-amzn-ErrorType": code}, {"message": message}


HI = reply({"text": "Hi"})


def bedrock(server):
    return ModelCalls("AWS_BEDROCK", None, services={"aws": EndpointClients(server.url)})


@pytest.mark.parametrize("case", [pytest.param(one, id=one["name"]) for one in CASES])
def test_a_request_is_sent_as_converse_documents_it(case):
    with json_server(HI) as server:
        calls = bedrock(server)
        assert calls.send(case["request"]).text == "Hi"
        assert server.bodies() == [case["body"]]
        if "path" in case:
            assert server.requests[0][0] == case["path"]
        assert [line.split()[0].partition(".")[2] for line in calls.log] == case.get("warned", [])
        (line,) = calls.calls.lines()
        assert line.startswith(f"done: bedrock-runtime Converse {case['request']['model']} in ")


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (
            reply(
                {"reasoningContent": {"reasoningText": {"text": "no"}}},
                {"text": "Hi"},
                {"text": "!"},
                usage={**USAGE, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 2},
            ),
            {
                "text": "Hi!",
                "finish": "stop",
                "usage": {"input_tokens": 10, "output_tokens": 7, "cached_tokens": 3},
            },
        ),
        (
            reply({"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}, reason="tool_use"),
            {"finish": "tool_calls", "tool_calls": ({"name": "f", "args": {"a": 1}, "id": "t"},)},
        ),
        (
            reply(
                {
                    "toolUse": {
                        "toolUseId": "t",
                        "name": "nova_grounding",
                        "input": {},
                        "type": "server_tool_use",
                    }
                },
                {"citationsContent": {"content": [{"text": "A"}], "citations": [{"title": "a"}]}},
            ),
            {"text": "A", "finish": "stop", "grounding": [{"title": "a"}]},
        ),
        (reply({"text": "A"}, reason="max_tokens"), {"text": "A", "finish": "length"}),
        (
            reply({"text": "Blocked."}, reason="guardrail_intervened"),
            {"text": "Blocked.", "finish": "refused", "refusal": "Blocked."},
        ),
        (reply(reason="content_filtered"), {"finish": "refused", "refusal": "content_filtered"}),
        (reply(reason="malformed_tool_use"), {"finish": "other"}),
    ],
)
def test_an_answer_is_read_as_converse_documents_it(answered, expected):
    with json_server(answered) as server:
        answer = answer_as_json(bedrock(server).send(model="anthropic.claude-3-haiku-20240307-v1:0"))
        tokens = {"input_tokens": 5, "output_tokens": 7, "cached_tokens": 0}
        assert answer == {"usage": tokens, **expected}


@pytest.mark.parametrize(
    ("status", "code", "kind", "name"),
    [
        (429, "ThrottlingException", RateLimitedError, "TransientStepError"),
        (429, "ModelNotReadyException", TransientStepError, "TransientStepError"),
        (408, "ModelTimeoutException", TransientStepError, "TransientStepError"),
        (424, "ModelErrorException", TransientStepError, "TransientStepError"),
        (503, "ServiceUnavailableException", TransientStepError, "TransientStepError"),
        (500, "InternalServerException", TransientStepError, "TransientStepError"),
        (403, "AccessDeniedException", PermanentStepError, "ModelAuthenticationError"),
        (403, "UnrecognizedClientException", PermanentStepError, "ModelAuthenticationError"),
        (403, "InvalidSignatureException", PermanentStepError, "ModelAuthenticationError"),
        (403, "ExpiredTokenException", PermanentStepError, "ModelAuthenticationError"),
        (404, "ResourceNotFoundException", PermanentStepError, "ModelNotFoundError"),
        (400, "ValidationException", PermanentStepError, "ValidationException"),
    ],
)
def test_each_error_of_bedrock_becomes_its_step_error(status, code, kind, name):
    with json_server(refused(status, code, "because")) as server:
        calls = bedrock(server)
        error = calls.failure(model="anthropic.x")
        assert type(error) is kind
        assert error.error_name == name
        assert error.message.startswith(f"converse of Bedrock model 'anthropic.x' failed: {code}: because.")
        assert error.details["provider"] == "AWS_BEDROCK"
        assert error.details["awsErrorCode"] == code
        assert calls.calls.lines()[0].startswith(f"{code}: bedrock-runtime Converse anthropic.x in ")


def test_a_model_id_that_bedrock_does_not_know_is_a_model_that_is_not_found():
    message = "The provided model identifier is invalid."
    with json_server(refused(400, "ValidationException", message)) as server:
        error = bedrock(server).failure(model="anthropic.x")
    assert (type(error), error.error_name) == (PermanentStepError, "ModelNotFoundError")


def test_one_call_is_one_request_with_the_environments_credentials(monkeypatch):
    with json_server(refused(503, "ServiceUnavailableException")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        aws = EnvironmentAws(connections=100)
        calls = ModelCalls("AWS_BEDROCK", None, services={"aws": aws})
        assert type(calls.failure(model="anthropic.x")) is TransientStepError
        assert len(server.requests) == 1
        config = aws.client("bedrock-runtime", None, retries=False).meta.config
        assert (config.max_pool_connections, config.read_timeout) == (100, 600)


def test_the_region_of_an_arn_is_used():
    with json_server(HI) as server:
        calls = bedrock(server)
        calls.send(model="arn:aws:bedrock:ap-south-1:123456789012:inference-profile/apac.anthropic.x-v1")
        assert calls.services["aws"].made == [("bedrock-runtime", "ap-south-1")]


def test_a_connection_of_common_ai_brings_its_own_credentials():
    extra = {
        "region_name": "eu-west-3",
        "aws_access_key_id": "AKIDTEST",
        "aws_secret_access_key": "planted-s",
    }
    with json_server(HI, refused(403, "AccessDeniedException", "planted-s")) as server:
        extra["base_url"] = server.url
        calls = ModelCalls("AWS_BEDROCK", {"kind": "pydanticai_bedrock", "password": "", "extra": extra})
        assert calls.send(model="anthropic.x").text == "Hi"
        assert "Credential=AKIDTEST/" in server.requests[0][1]["Authorization"]
        assert "/eu-west-3/bedrock/" in server.requests[0][1]["Authorization"]
        error = calls.failure(model="anthropic.x")
        assert error.message.endswith("(through Airflow connection 'llm')")
        assert "planted-s" not in error.message


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"region_name": 7}, "extra.region_name of connection 'llm' must be a string"),
        ({"api_key": "planted"}, "extra.api_key of connection 'llm' is not supported"),
        ({"region_name": "x", "profile_name": "missing"}, "No bedrock-runtime client can be made with"),
    ],
)
def test_a_connection_of_common_ai_that_cannot_be_used(extra, message):
    calls = ModelCalls("AWS_BEDROCK", {"kind": "pydanticai_bedrock", "password": "", "extra": extra})
    error = calls.failure(model="anthropic.x")
    assert type(error) is PermanentStepError
    assert message in error.message
    assert "planted" not in error.message


def test_without_aws_and_with_wrong_settings_the_message_says_what_to_do():
    calls = ModelCalls("AWS_BEDROCK", None)
    assert "no AWS credentials are configured" in calls.failure().message
    assert "guardrailConfig must be an object" in calls.failure(config={"guardrailConfig": "g"}).message


def test_a_call_that_takes_too_long_is_a_transient_error():
    class Slow:
        connection = "x"

        def client(self, *_, **__):
            release.wait(10)
            raise AssertionError

    release = threading.Event()
    calls = ModelCalls("AWS_BEDROCK", None, services={"aws": Slow()})
    error = calls.failure(config={"timeoutMs": 20})
    release.set()
    assert type(error) is TransientStepError
    assert error.message.startswith("No answer from model AWS_BEDROCK/test-model within 0.02 seconds.")
