"""Vertex AI: projects of connections, and access tokens from a token server on loopback."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.json_server import json_server
from tests.support.model_calls import OK, ModelCalls

KIND = "google_cloud_platform"
PATH = "/v1/projects/acme/locations/europe-west1/publishers/google/models/gemini-2.5-flash:generateContent"


@pytest.fixture
def account(private_key):
    """Returns the key of a service account whose tokens come from a server."""
    return lambda server: {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "k1",
        "private_key": private_key,
        "client_email": "models@acme.iam.gserviceaccount.com",
        "token_uri": f"{server.url}/token",
    }


def token(number=1, seconds=3600):
    return 200, {}, {"access_token": f"planted-token-{number}", "expires_in": seconds, "token_type": "Bearer"}


def vertex(extra, *replies, kind=KIND, **fields):
    http = FakeHttpClient().route("POST", "http*", *(replies or (json_response(OK["GEMINI"]),)))
    return ModelCalls("GEMINI", {"kind": kind, "password": "", "extra": extra, **fields}, http)


def test_a_service_account_gets_one_token_for_all_requests(account):
    with json_server(token(1), token(2)) as server:
        extra = {"keyfile_dict": account(server), "location": "europe-west1"}
        calls = vertex(extra)

        async def main():
            await asyncio.gather(*(calls.send_async({"model": "gemini-2.5-flash"}) for _ in range(20)))

        asyncio.run(main())
        assert calls.send(model="gemini-2.5-flash").text == "Hi"
        assert len(server.requests) == 1
        path, _, body = server.requests[0]
        assert path == "/token"
        assert body.startswith(b"assertion=") or b"grant_type=" in body
    assert {sent.url for sent in calls.http.requests} == {
        f"https://europe-west1-aiplatform.googleapis.com{PATH}"
    }
    assert {sent.headers["Authorization"] for sent in calls.http.requests} == {"Bearer planted-token-1"}
    assert "x-goog-api-key" not in calls.http.requests[0].headers
    assert calls.http.requests[0].options.secret_headers == {"authorization"}


def test_a_token_is_fetched_again_before_it_expires(account):
    with json_server(token(1, 60), token(2, 3600)) as server:
        calls = vertex({"keyfile_dict": account(server)})
        for _ in range(3):
            calls.send(model="m")
    sent = [one.headers["Authorization"][-1] for one in calls.http.requests]
    assert sent == ["1", "2", "2"]


GOOGLE = "https://aiplatform.googleapis.com/v1/projects"


@pytest.mark.parametrize(
    ("extra", "url"),
    [
        ({}, f"{GOOGLE}/acme/locations/global/publishers/google/models/m:generateContent"),
        ({"location": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/acme/locations/eu/"),
        ({"location": "asia-east1"}, "https://asia-east1-aiplatform.googleapis.com/v1/projects/acme/"),
        ({"project": "other"}, f"{GOOGLE}/other/locations/global/"),
        ({"project_id": "p", "model": "google-vertex:x"}, f"{GOOGLE}/p/locations/global/"),
        ({"extra__google_cloud_platform__project": "old"}, f"{GOOGLE}/old/locations/global/"),
    ],
)
def test_project_and_location_are_those_of_the_extra_else_of_the_key(account, extra, url):
    with json_server(token()) as server:
        calls = vertex({"keyfile_dict": account(server), **extra})
        calls.send(model="m")
    assert calls.http.requests[0].url.startswith(url)


@pytest.mark.parametrize(
    ("kind", "name", "make"),
    [
        (KIND, "keyfile_dict", dict),
        (KIND, "keyfile_dict", json.dumps),
        (KIND, "extra__google_cloud_platform__keyfile_dict", json.dumps),
        (KIND, "key_path", None),
        ("pydanticai_vertex", "service_account_info", dict),
        ("pydanticai-vertex", "service_account_file", None),
    ],
)
def test_the_key_of_the_service_account_can_be_in_the_extra_or_in_a_file(account, tmp_path, kind, name, make):
    with json_server(token()) as server:
        key = account(server)
        file = tmp_path / "key.json"
        file.write_text(json.dumps(key))
        value = make(key) if make else str(file)
        calls = vertex({name: value, "project": "acme"}, kind=kind)
        calls.send(model="m")
    assert calls.http.requests[0].headers["Authorization"] == "Bearer planted-token-1"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("publishers/google/models/m@1", "projects/acme/locations/global/publishers/google/models/m@1"),
        ("models/m", "projects/acme/locations/global/publishers/google/models/m"),
        ("projects/7/locations/x/endpoints/9", "projects/7/locations/x/endpoints/9"),
    ],
)
def test_a_model_can_be_a_resource_name_and_a_host_replaces_googles(account, model, path):
    with json_server(token()) as server:
        calls = vertex({"keyfile_dict": account(server)}, host="https://proxy.test/vertex")
        calls.send(model=model)
    assert calls.http.requests[0].url == f"https://proxy.test/vertex/v1/{path}:generateContent"


def test_without_a_key_the_workers_own_credentials_are_used(account, tmp_path, monkeypatch):
    with json_server(token()) as server:
        file = tmp_path / "adc.json"
        file.write_text(json.dumps(account(server)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        calls = vertex({"project": "acme"})
        assert calls.send(model="m").text == "Hi"


def test_tokens_and_private_keys_are_masked(account, private_key):
    with json_server(token()) as server:
        key = json.dumps(account(server))
        calls = vertex(
            {"keyfile_dict": key},
            lambda request: json_response({"error": {"message": str(request.headers)}}, 400),
        )
        error = calls.failure(model="m")
    assert "planted-token" not in f"{error.message}{error.details}"
    assert "***" in error.message
    masks = calls.secrets.masks
    assert private_key not in masks.text(f"the key {private_key}")
    assert "planted-token-1" in calls.source.hidden


def test_a_token_that_vertex_rejects_is_an_error_about_the_service_account(account):
    with json_server(token()) as server:
        calls = vertex({"keyfile_dict": account(server)}, json_response({"error": {"code": 401}}, 401))
        error = calls.failure(model="m")
    assert error.error_name == "ModelAuthenticationError"
    assert "Correct the service account in its extra." in error.message


def test_after_a_rejected_token_the_next_request_fetches_a_new_one(account):
    with json_server(token(1), token(2)) as server:
        refused = json_response({"error": {"code": 401}}, 401)
        calls = vertex({"keyfile_dict": account(server)}, refused, json_response(OK["GEMINI"]))
        calls.failure(model="m")
        assert calls.send(model="m").text == "Hi"
    assert calls.http.requests[1].headers["Authorization"] == "Bearer planted-token-2"


def test_a_cached_token_is_masked_for_each_service_that_uses_it(account):
    with json_server(token()) as server:
        calls = vertex({"keyfile_dict": account(server)})
        calls.send(model="m")
        calls.secrets = Secrets(calls.source)
        calls.send(model="m")
        assert len(server.requests) == 1
    assert calls.secrets.masks.text("Bearer planted-token-1") == "Bearer ***"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, PermanentStepError),
        (401, {"error": "invalid_client"}, PermanentStepError),
    ],
)
def test_a_rejected_service_account_is_an_error_and_is_tried_again_next_time(account, status, body, kind):
    with json_server((status, {}, body), token()) as server:
        calls = vertex({"keyfile_dict": account(server)})
        error = calls.failure(model="m")
        assert type(error) is kind
        assert error.message.startswith(
            f"No access token for connection 'llm': RefreshError: {body['error']}"
        )
        assert "Check the service account" in error.message
        assert "PRIVATE KEY" not in f"{error.message}{error.details}"
        assert calls.send(model="m").text == "Hi"


def test_a_token_server_that_does_not_answer_is_transient(account):
    with json_server(token()) as server:
        key = account(server)
    error = vertex({"keyfile_dict": key}).failure(model="m")
    assert type(error) is TransientStepError
    assert error.message.startswith("No access token for connection 'llm': TransportError")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "extra.project of connection 'llm' must be the id of a project"),
        ({"project": "a/b"}, "extra.project of connection 'llm' must be the id of a project"),
        (
            {"project": "acme", "location": "evil.test/"},
            "extra.location of connection 'llm' must be a location",
        ),
        ({"keyfile_dict": "planted {"}, "extra.keyfile_dict of connection 'llm' must be the JSON key"),
        ({"keyfile_dict": [1]}, "extra.keyfile_dict of connection 'llm' must be the JSON key"),
        (
            {"project": "acme", "impersonation_chain": "x"},
            "extra.impersonation_chain of connection 'llm' is not",
        ),
        ({"project": "acme", "keyfile_dict": {"type": "service_account"}}, "No access token for connection"),
        ({"project": "acme", "key_path": "/missing/key.json"}, "No access token for connection"),
    ],
)
def test_a_connection_that_cannot_be_used_is_an_error(extra, message):
    error = vertex(extra).failure(model="m")
    assert type(error) is PermanentStepError
    assert message in error.message
    assert "planted" not in error.message


def test_without_google_auth_the_message_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.auth.exceptions", None)
    error = vertex({"project": "acme"}).failure(model="m")
    assert "Install airflow-allma[llm]" in error.message
