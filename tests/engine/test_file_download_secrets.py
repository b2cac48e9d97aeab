"""FILE_DOWNLOAD with connections and Variables."""

from __future__ import annotations

from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.secrets import Secrets
from airflow_allma.storage import MemoryStore
from tests.support.download_server import TEXT
from tests.support.engine import run
from tests.support.secrets import SecretsInMemory


def fetch(server, url, headers=None, **fields):
    extra = {"headers": {"X-Tenant": "planted-header"}}
    connection = {"id": "files", "host": server.url, "login": "planted-login", "extra": extra}
    step = {
        "stepType": "FILE_DOWNLOAD",
        "sourceUrlTemplate": url,
        "destinationBucket": "b",
        "headersTemplate": headers or {},
        "outputMappings": {"$.file": "$.filePointer", "$.meta": "$._meta"},
        **fields,
    }
    store = MemoryStore()
    secrets = Secrets(SecretsInMemory([connection], {"token": "planted-token"}))
    ran = run({"get": step}, {"id": "7"}, store=store, http=AiohttpClient(), secrets=secrets)
    return ran, store


def test_a_download_uses_a_connection_and_a_variable_and_shows_neither(downloads):
    headers = {"X-Key": "{{var.token}}"}
    ran, store = fetch(downloads, "/text/{{id}}?t={{var.token}}", headers, connection="files")
    assert ran.status == "COMPLETED", ran.error
    _, path, sent = downloads.requests[0]
    assert path == "/text/7?t=planted-token"
    assert (sent["X-Key"], sent["X-Tenant"]) == ("planted-token", "planted-header")
    assert sent["Authorization"].startswith("Basic ")
    assert ran.context["meta"]["sourceUrl"] == f"{downloads.url}/text/7?t=***"
    ((stored, info),) = store._objects.values()
    assert stored == TEXT
    assert "planted" not in repr((ran.context, info, ran.fakes.record("get").calls.lines()))


def test_another_host_gets_no_secrets_after_a_redirect(downloads):
    headers = {"X-Key": "{{var.token}}", "X-Plain": "sent"}
    ran, _ = fetch(downloads, "/elsewhere/text", headers, connection="files")
    assert ran.status == "COMPLETED", ran.error
    (_, _, first), (_, _, second) = downloads.requests
    assert first["X-Key"] == "planted-token"
    assert "planted" not in repr(second)
    assert "Authorization" not in second
    assert second["X-Plain"] == "sent"


def test_the_error_of_a_download_shows_no_secrets(downloads):
    ran, _ = fetch(downloads, "/status/404?t={{var.token}}", connection="files")
    assert ran.status == "FAILED"
    assert ran.error["errorDetails"]["url"] == f"{downloads.url}/status/404?t=***"
    assert "planted" not in repr(ran.error)
