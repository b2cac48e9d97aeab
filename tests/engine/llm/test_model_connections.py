"""Connections of providers: what each field means, and what is wrong with those that cannot be used."""

from __future__ import annotations

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.llm.model_connections import ParsedConnections
from airflow_allma.exceptions import PermanentStepError, SecretUnavailableError, TransientStepError
from tests.support.model_calls import KEY, OK, ModelCalls

AZURE = "https://acme.openai.azure.com"
DEPLOYMENT = f"{AZURE}/openai/deployments/test-model/chat/completions?api-version="
BEARER = {"Authorization": f"Bearer {KEY}"}
CONNECTIONS = [
    ("OPENAI", {}, "https://api.openai.com/v1/chat/completions", BEARER),
    ("OPENAI", {"kind": "http", "host": "https://api.openai.com"}, "https://api.openai.com/v1/", BEARER),
    ("OPENAI", {"host": "eu.api.openai.com"}, "https://eu.api.openai.com/v1/chat/completions", BEARER),
    ("OPENAI", {"host": "models.test", "schema": "http", "port": 81}, "http://models.test:81/chat", BEARER),
    ("OPENAI", {"host": "models.test/v1/"}, "https://models.test/v1/chat/completions", BEARER),
    (
        "OPENAI",
        {"kind": "pydanticai", "host": "https://models.test/v1", "extra": {"model": "openai:other"}},
        "https://models.test/v1/chat/completions",
        BEARER,
    ),
    ("OPENAI", {"password": f" {KEY}\n"}, "https://api.openai.com/v1/", BEARER),
    ("OPENAI", {"login": "me", "extra": {"auth": "bearer"}}, "https://api.openai.com/v1/", BEARER),
    (
        "OPENAI",
        {"extra": {"headers": {"authorization": "Basic planted"}}},
        "https://api.openai.com",
        {"authorization": "Basic planted"},
    ),
    ("OPENAI", {"kind": "pydanticai_azure", "host": AZURE}, f"{DEPLOYMENT}2024-10-21", {"api-key": KEY}),
    (
        "OPENAI",
        {"kind": "pydanticai-azure", "host": f"{AZURE}/openai", "extra": {"api_version": "2025-03-01"}},
        f"{DEPLOYMENT}2025-03-01",
        {"api-key": KEY},
    ),
    (
        "OPENAI",
        {"host": f"{AZURE}/openai/v1/", "extra": {"api_type": "azure"}},
        f"{AZURE}/openai/v1/chat/completions",
        {"api-key": KEY},
    ),
    ("ANTHROPIC", {"kind": "anthropic"}, "https://api.anthropic.com/v1/messages", {"x-api-key": KEY}),
    (
        "ANTHROPIC",
        {"extra": {"headers": {"X-Api-Key": "planted-own"}}},
        "https://api.anthropic.com",
        {"X-Api-Key": "planted-own"},
    ),
    (
        "GEMINI",
        {"kind": "pydanticai"},
        "https://generativelanguage.googleapis.com/v1beta/models/test-model:",
        {"x-goog-api-key": KEY},
    ),
]


@pytest.mark.parametrize(("provider", "connection", "url", "headers"), CONNECTIONS)
def test_a_connection_says_where_the_models_are_and_has_the_key(provider, connection, url, headers):
    http = FakeHttpClient().route("POST", "http*", json_response(OK[provider]))
    ModelCalls(provider, connection, http).send()
    (sent,) = http.requests
    assert sent.url.startswith(url)
    names = {"authorization", "api-key", "x-api-key", "x-goog-api-key"}
    assert {name: value for name, value in sent.headers.items() if name.lower() in names} == headers
    # After a redirect, no other host gets them.
    assert sent.options.secret_headers >= {name.lower() for name in headers}


def test_timeout_and_tls_are_those_of_http_connections():
    http = FakeHttpClient().route("POST", "http*", json_response(OK["OPENAI"]))
    ModelCalls("OPENAI", {"extra": {"timeout": [3, 9], "verify": False}}, http).send()
    (sent,) = http.requests
    assert (sent.timeout, sent.options.connect_seconds, sent.options.verify) == (9, 3, False)


WRONG = [
    ("OPENAI", {"password": ""}, "password of connection 'llm' is empty; set it to the API key"),
    ("OPENAI", {"password": "planted\nX-Evil: 1"}, "password of connection 'llm' must be one line"),
    ("OPENAI", {"password": "planted-é"}, "password of connection 'llm' must be one line of ASCII"),
    ("OPENAI", {"host": "ftp://x"}, "schema of connection 'llm' must be http or https"),
    ("OPENAI", {"host": "https://x/?a=b"}, "host of connection 'llm' must be a host"),
    ("OPENAI", {"extra": {"timeout": -1}}, "extra.timeout of connection 'llm' must be"),
    ("OPENAI", {"extra": {"api_type": "planted"}}, "extra.api_type of connection 'llm' must be"),
    ("OPENAI", {"kind": "pydanticai_azure"}, "host of connection 'llm' is empty; set it to the URL"),
    (
        "OPENAI",
        {"kind": "pydanticai_azure", "host": AZURE, "extra": {"api_version": "a&b"}},
        "extra.api_version of connection 'llm' must be a version",
    ),
    (
        "OPENAI",
        {"kind": "pydanticai_vertex"},
        "'pydanticai_vertex', which is one for GEMINI and not for OPENAI",
    ),
    ("ANTHROPIC", {"kind": "pydanticai_azure"}, "which is one for OPENAI and not for ANTHROPIC"),
    ("GEMINI", {"kind": "aws"}, "which is one for AWS_BEDROCK and not for GEMINI"),
    ("AWS_BEDROCK", {"kind": "google_cloud_platform"}, "which is one for GEMINI and not for AWS_BEDROCK"),
    ("AWS_BEDROCK", {"kind": "aws"}, "AWS_BEDROCK, which takes the AWS connection of the flow"),
    ("CUSTOM_LAMBDA", {}, "CUSTOM_LAMBDA, which takes the AWS connection of the flow"),
]


@pytest.mark.parametrize(("provider", "connection", "message"), WRONG)
def test_a_connection_that_cannot_be_used_is_an_error_that_names_the_field(provider, connection, message):
    calls = ModelCalls(provider, connection)
    error = calls.failure()
    assert type(error) is PermanentStepError
    assert message in error.message
    assert "planted" not in error.message
    assert not calls.http.requests


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI"])
def test_without_a_connection_the_message_says_where_to_set_one(provider):
    assert ModelCalls(provider, None).failure().message == (
        f"No connection for provider {provider}: set `connection` in the step, or [allma] llm_connections = "
        f'{{"{provider}": "my_connection"}} (AIRFLOW__ALLMA__LLM_CONNECTIONS in the environment).'
    )


def test_a_connection_that_does_not_exist_or_cannot_be_looked_up_is_a_step_error():
    calls = ModelCalls("OPENAI")
    calls.source._connections.clear()
    assert "Connection 'llm' does not exist" in calls.failure().message

    def unavailable(_):
        raise SecretUnavailableError("The store does not answer.")

    calls.source.connection = unavailable
    assert type(calls.failure()) is TransientStepError


def test_a_connection_is_read_again_only_when_it_changes():
    def secret(**fields):
        return ConnectionSecret(**{"id": "llm", "password": "planted-1", **fields})

    read = []
    parsed = ParsedConnections(lambda one: read.append(one) or len(read))
    first = secret()
    assert [parsed.get(first), parsed.get(first), parsed.get(secret())] == [1, 1, 1]
    assert parsed.get(secret(password="planted-2")) == 2
    for number in range(100):
        parsed.get(secret(id=f"c{number}"))
    assert len(parsed._known) == 64
