from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlencode
from urllib.request import Request

import pytest

from demo.model_servers import Behaviour, CalledTool, running_models
from tests.support.model_servers import (
    ANTHROPIC,
    AZURE,
    BODIES,
    CONVERSE,
    GEMINI,
    KEY,
    OPENAI,
    VERTEX,
    anthropic_body,
    converse_body,
    finish_of,
    gemini_body,
    openai_body,
    post,
    send,
    text_of,
    usage_of,
)

ALL = (OPENAI, AZURE, ANTHROPIC, GEMINI, CONVERSE)
IDS = ("openai", "azure", "anthropic", "gemini", "converse")
PNG = base64.b64encode(b"\x89PNG").decode()


@pytest.mark.parametrize("vendor", ALL, ids=IDS)
def test_each_vendor_is_answered_in_its_own_format(models, vendor):
    models.configure(fake=Behaviour(answer="three short words"))
    status, _, answer = post(models, vendor)
    assert (status, text_of(vendor, answer)) == (200, "three short words")
    assert finish_of(vendor, answer).lower() in {"stop", "end_turn"}
    assert usage_of(vendor, answer) == (2, 3)  # "Say OK"


ERRORS = [
    (OPENAI, 401, ("error", "code"), None),
    (AZURE, 401, ("error", "code"), "401"),
    (ANTHROPIC, 401, ("error", "type"), "authentication_error"),
    (GEMINI, 403, ("error", "status"), "PERMISSION_DENIED"),
    (CONVERSE, 403, ("message",), "Missing Authentication Token"),
]


@pytest.mark.parametrize(("vendor", "expected", "path", "value"), ERRORS, ids=IDS)
def test_a_request_without_a_key_is_refused_as_its_vendor_does(models, vendor, expected, path, value):
    status, _, error = post(models, vendor, headers={})
    for name in path:
        error = error[name]
    assert (status, error) == (expected, value)


@pytest.mark.parametrize("vendor", ALL, ids=IDS)
def test_another_key_is_refused(vendor):
    with running_models(key="the only one") as server:
        status, _, _ = post(server, vendor)
    assert status == (400 if vendor is GEMINI else 403 if vendor is CONVERSE else 401)


@pytest.mark.parametrize("vendor", ALL, ids=IDS)
def test_unknown_fields_are_refused_with_their_name(models, vendor):
    body = {**BODIES[vendor[0]](), "topK": 3}
    status, _, error = post(models, vendor, body)
    assert status == 400
    assert "topK" in json.dumps(error)


@pytest.mark.parametrize("vendor", ALL, ids=IDS)
def test_a_body_that_is_not_json_is_refused(models, vendor):
    assert post(models, vendor, data=b"{")[0] == 400


BLOB = {"inlineData": {"mimeType": "image/png", "data": PNG}}
SOURCE = {"type": "base64", "media_type": "image/png", "data": PNG}
SAFETY = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}
TOOL = {"type": "object", "properties": {}}
SPEC = {"name": "find", "inputSchema": {"json": TOOL}}
WRONG = [
    (OPENAI, openai_body(temperature=2.5), "temperature"),
    (OPENAI, openai_body(top_k=40), "Unknown parameter: 'top_k'"),
    (OPENAI, openai_body(response_format={"type": "json_object"}), "must contain the word 'json'"),
    (OPENAI, openai_body(tool_choice="auto"), "'tools'"),
    (OPENAI, openai_body(tools=[{"type": "web_search"}]), "web_search"),
    (OPENAI, openai_body([{"type": "image_url", "image_url": {"url": "data:image/png,AA"}}]), "image_url"),
    (OPENAI, openai_body(stream=True), "stream"),
    (OPENAI, {"messages": [{"role": "user", "content": "x"}]}, "model"),
    (ANTHROPIC, openai_body(), "max_tokens"),
    (ANTHROPIC, anthropic_body(temperature=1.5), "temperature"),
    (ANTHROPIC, anthropic_body(messages=[{"role": "system", "content": "x"}]), "role"),
    (ANTHROPIC, anthropic_body(tools=[{"name": "f"}]), "input_schema"),
    (ANTHROPIC, anthropic_body(tools=[{"type": "web_search_20250305", "name": "search"}]), "web_search"),
    (ANTHROPIC, anthropic_body(messages=[{"role": "user", "content": ""}]), "content"),
    (GEMINI, gemini_body(generationConfig={"maxTokens": 5}), "maxTokens"),
    (GEMINI, gemini_body(contents=[{"role": "assistant", "parts": [{"text": "x"}]}]), "role"),
    (GEMINI, gemini_body(contents=[{"parts": [{"text": "x", **BLOB}]}]), "exactly one"),
    (
        GEMINI,
        gemini_body(tools=[{"googleSearch": {}}], generationConfig={"responseMimeType": "application/json"}),
        "mime type",
    ),
    (
        GEMINI,
        gemini_body(safetySettings=[{"category": "HARM_CATEGORY_X", "threshold": "NEVER"}]),
        "threshold",
    ),
    (CONVERSE, converse_body(inferenceConfig={"temperature": 1.5}), "temperature"),
    (CONVERSE, converse_body(inferenceConfig={"topK": 5}), "topK"),
    (CONVERSE, converse_body(messages=[{"role": "assistant", "content": [{"text": "x"}]}]), "user message"),
    (CONVERSE, converse_body(messages=[{"role": "user", "content": [{"text": " "}]}]), "blank"),
    (
        CONVERSE,
        converse_body(
            messages=[{"role": "user", "content": [{"image": {"format": "bmp", "source": {"bytes": PNG}}}]}]
        ),
        "format",
    ),
]


@pytest.mark.parametrize(("vendor", "body", "named"), WRONG, ids=[row[2] for row in WRONG])
def test_what_a_vendor_does_not_take_is_refused_and_named(models, vendor, body, named):
    status, _, error = post(models, vendor, body)
    assert status == 400
    assert named in json.dumps(error)


def test_anthropic_needs_its_version_header_and_azure_its_version(models):
    assert post(models, ANTHROPIC, headers={"x-api-key": KEY})[0] == 400
    without_version = (AZURE[0].partition("?")[0], AZURE[1])
    status, _, error = post(models, without_version, openai_body())
    assert (status, error["error"]["message"]) == (404, "Resource not found")


MEDIA = [
    (OPENAI, openai_body([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}])),
    (
        ANTHROPIC,
        anthropic_body(
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]
        ),
    ),
    (
        GEMINI,
        gemini_body(
            contents=[{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}]
        ),
    ),
    (
        CONVERSE,
        converse_body(
            messages=[{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": PNG}}}]}]
        ),
    ),
]


@pytest.mark.parametrize(("vendor", "body"), MEDIA, ids=("openai", "anthropic", "gemini", "converse"))
def test_pictures_count_as_a_hundred_tokens_and_some_models_take_none(models, vendor, body):
    _, _, answer = post(models, vendor, body)
    assert usage_of(vendor, answer) == (100, 1)
    models.configure(fake=Behaviour(media=False))
    assert post(models, vendor, body)[0] == 400


FUNCTIONS = [
    (OPENAI, openai_body(tools=[{"type": "function", "function": {"name": "find", "parameters": TOOL}}])),
    (ANTHROPIC, anthropic_body(tools=[{"name": "find", "input_schema": TOOL}])),
    (GEMINI, gemini_body(tools=[{"functionDeclarations": [{"name": "find", "parameters": TOOL}]}])),
    (
        CONVERSE,
        converse_body(toolConfig={"tools": [{"toolSpec": SPEC}]}),
    ),
]


@pytest.mark.parametrize(("vendor", "body"), FUNCTIONS, ids=("openai", "anthropic", "gemini", "converse"))
def test_models_call_the_functions_of_the_request(models, vendor, body):
    models.configure(fake=Behaviour(tool_calls=(CalledTool(name="find", args={"id": 7}),)))
    _, _, answer = post(models, vendor, body)
    called = json.dumps(answer).replace('\\"', '"')
    assert '"name": "find"' in called
    assert '{"id": 7}' in called or '{"id":7}' in called
    assert text_of(vendor, answer) is None
    assert finish_of(vendor, answer) in {"tool_calls", "tool_use", "STOP"}
    assert text_of(vendor, post(models, vendor)[2]) == "OK"  # without tools


@pytest.mark.parametrize(
    ("vendor", "body"),
    [
        (OPENAI, openai_body(max_tokens=2)),
        (ANTHROPIC, anthropic_body(max_tokens=2)),
        (GEMINI, gemini_body(generationConfig={"maxOutputTokens": 2})),
        (CONVERSE, converse_body(inferenceConfig={"maxTokens": 2})),
    ],
    ids=("openai", "anthropic", "gemini", "converse"),
)
def test_an_answer_ends_at_the_maximum_of_the_request(models, vendor, body):
    models.configure(fake=Behaviour(answer="one  two three four"))
    _, _, answer = post(models, vendor, body)
    assert text_of(vendor, answer) == "one  two"
    assert finish_of(vendor, answer) in {"length", "max_tokens", "MAX_TOKENS"}


MODEL_LIMITS = [
    (OPENAI, openai_body(max_tokens=20), Behaviour(reasoning=True), "max_completion_tokens"),
    (OPENAI, openai_body(temperature=0.7), Behaviour(reasoning=True), "temperature"),
    (OPENAI, openai_body(max_tokens=20), Behaviour(max_output_tokens=10), "too large"),
    (ANTHROPIC, anthropic_body(max_tokens=20), Behaviour(max_output_tokens=10), "20 > 10"),
    (ANTHROPIC, anthropic_body(temperature=1, top_p=1), Behaviour(one_sampling_parameter=True), "top_p"),
    (GEMINI, gemini_body(generationConfig={"maxOutputTokens": 20}), Behaviour(max_output_tokens=10), "20"),
    (
        CONVERSE,
        converse_body(inferenceConfig={"temperature": 1, "topP": 1}),
        Behaviour(one_sampling_parameter=True),
        "top_p",
    ),
]


@pytest.mark.parametrize(("vendor", "body", "behaviour", "named"), MODEL_LIMITS)
def test_models_have_limits_of_their_own(models, vendor, body, behaviour, named):
    models.configure(fake=behaviour)
    status, _, error = post(models, vendor, body)
    assert status == 400
    assert named in json.dumps(error)


def test_cached_and_reasoning_tokens_are_reported_as_each_vendor_does(models):
    models.configure(fake=Behaviour(cached_tokens=5, reasoning_tokens=4))
    assert usage_of(OPENAI, post(models, OPENAI)[2]) == (7, 5)
    assert usage_of(ANTHROPIC, post(models, ANTHROPIC)[2]) == (2, 5)
    assert usage_of(GEMINI, post(models, GEMINI)[2]) == (7, 1)
    assert usage_of(CONVERSE, post(models, CONVERSE)[2]) == (2, 5)
    models.configure(fake=Behaviour(usage=False))
    assert "usage" not in post(models, OPENAI)[2]


def assertion(**more):
    claims = {"iss": "robot", "aud": "x", "scope": "y", "iat": 0, "exp": time.time() + 3600, **more}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)] + [b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def token_request(server, jwt):
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": jwt}
    return send(Request(f"{server.url}/token", urlencode(form).encode()))


def test_vertex_takes_tokens_that_the_server_issued_until_they_end(models):
    assert token_request(models, assertion(exp=1))[2]["error"] == "invalid_grant"
    _, _, token = token_request(models, assertion())
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3599)
    assert post(models, VERTEX, gemini_body(), bearer)[0] == 200
    assert post(models, VERTEX, gemini_body(), {"Authorization": "Bearer else"})[0] == 401
    models.service.tokens.revoke()
    status, _, error = post(models, VERTEX, gemini_body(), bearer)
    assert (status, error["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_boto3_talks_to_converse_with_a_model_arn(models):
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    arn = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.vendor.model-v1:0"
    models.configure_all({arn: Behaviour(outcomes=(200, 429))})
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=models.url,
        region_name="eu-central-1",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )
    answer = client.converse(modelId=arn, **converse_body())
    assert answer["output"]["message"]["content"] == [{"text": "OK"}]
    with pytest.raises(ClientError, match="ThrottlingException"):
        client.converse(modelId=arn, **converse_body())
