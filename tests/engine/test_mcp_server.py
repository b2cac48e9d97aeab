"""Where an MCP server is and how it authenticates, from Airflow's and from exported connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.mcp.mcp_server import resolve_server
from airflow_allma.engine.secrets import Secrets
from tests.support.mail_steps import Connections
from tests.support.mcp_servers import running_mcp_fake
from tests.support.mcp_steps import KEY, call_tool, entry, wiki


@pytest.fixture
def fake():
    with running_mcp_fake() as server:
        yield server


@pytest.fixture
def https_certificate(tmp_path):
    """The files of a certificate for localhost and of its key."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


def sent_headers(fake, *, connections, entries=(), **fields):
    """Return the headers of the call of a tool, by their names in lower case."""
    ran = call_tool(fake.url, connections=connections, entries=entries, **fields)
    assert ran.status == "COMPLETED", ran.error
    return next(headers for method, headers in fake.requests if method == "tools/call")


def test_an_exported_connection_without_authentication_needs_no_airflow_connection(fake):
    headers = sent_headers(
        fake, connections=Connections(), entries=(entry(fake.url),), connection=None, mcpConnectionId="wiki"
    )
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [("BEARER_TOKEN", "authorization", f"Bearer {KEY}"), ("API_KEY", "x-api-key", KEY)],
)
def test_an_exported_connection_gets_its_token_from_the_airflow_connection_of_its_id(
    kind, header, value, fake
):
    exported = entry(fake.url, kind, secretArn="arn:aws:secretsmanager:x")
    headers = sent_headers(
        fake,
        connections=Connections(wiki("", login="somebody", extra={"headers": {"X-Team": "blue"}})),
        entries=(exported,),
        connection=None,
        mcpConnectionId="wiki",
    )
    assert (headers[header], headers["x-team"]) == (value, "blue")


def test_a_key_in_the_json_of_a_secret_is_the_token(fake):
    exported = entry(fake.url, "API_KEY", secretArn="arn:x", secretJsonKey="key")
    secret = wiki("", password=json.dumps({"key": "inner-key"}))
    fields = {"entries": (exported,), "connection": None, "mcpConnectionId": "wiki"}
    assert sent_headers(fake, connections=Connections(secret), **fields)["x-api-key"] == "inner-key"
    whole = Connections(wiki("", password="whole"))
    fake.requests.clear()
    assert sent_headers(fake, connections=whole, **fields)["x-api-key"] == "whole"


def test_another_airflow_connection_can_have_the_token(fake):
    exported = entry(fake.url, "BEARER_TOKEN")
    other = ConnectionSecret("other", "http", "", password="other-key")
    headers = sent_headers(
        fake,
        connections=Connections(other),
        entries=(exported,),
        connection="other",
        mcpConnectionId="wiki",
    )
    assert headers["authorization"] == "Bearer other-key"


def test_an_exported_connection_without_its_airflow_connection_says_which_one_to_create(fake):
    exported = entry(fake.url, "BEARER_TOKEN", secretArn="arn:aws:x")
    ran = call_tool(
        fake.url, connections=Connections(), entries=(exported,), connection=None, mcpConnectionId="wiki"
    )
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"] == (
        "MCP connection 'wiki' has the authentication BEARER_TOKEN, and no Airflow connection 'wiki' with "
        "the token exists. Create it in Admin > Connections (type http, the token as its password); "
        "arn:aws:x is not read here."
    )


def test_the_credentials_of_a_connection_go_to_no_other_host(fake):
    exported = entry(fake.url, "BEARER_TOKEN")
    ran = call_tool(
        fake.url,
        connections=Connections(wiki("https://mcp.corp.example")),
        entries=(exported,),
        mcpConnectionId="wiki",
    )
    assert (
        "is on another host than Airflow connection 'wiki' (https://mcp.corp.example)"
        in (ran.error["errorMessage"])
    )
    assert fake.requests == []


@pytest.mark.parametrize(
    ("secret", "url", "authorization"),
    [
        ({"host": "mcp.test"}, "http://mcp.test/mcp", f"Bearer {KEY}"),
        ({"host": "mcp.test", "schema": "https", "port": 8443}, "https://mcp.test:8443/mcp", f"Bearer {KEY}"),
        ({"host": "https://mcp.test/"}, "https://mcp.test/", f"Bearer {KEY}"),
        ({"host": "https://mcp.test/a/b"}, "https://mcp.test/a/b", f"Bearer {KEY}"),
        ({"host": "https://mcp.test/a/"}, "https://mcp.test/a/", f"Bearer {KEY}"),
        ({"host": "https://mcp.test", "login": "u", "password": "p"}, "https://mcp.test/mcp", "Basic dTpw"),
        ({"host": "https://mcp.test", "password": ""}, "https://mcp.test/mcp", None),
    ],
)
def test_a_connection_is_read_as_a_url_and_credentials(secret, url, authorization):
    fields = {"password": KEY, **secret}
    secrets = Secrets(Connections(ConnectionSecret("wiki", "mcp", **fields)))
    server = asyncio.run(resolve_server(None, "wiki", secrets, allow_stdio=False))
    assert (server.url, server.headers.get("Authorization")) == (url, authorization)
    assert KEY not in repr(server)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": ""}, "host of connection 'wiki' is empty"),
        (
            {"host": "x", "extra": {"transport": "sse"}},
            "extra.transport of connection 'wiki' is \"sse\"",
        ),
        ({"host": "x", "extra": {"transport": "carrier"}}, "extra.transport of connection 'wiki' must be"),
        ({"host": "ftp://x"}, "schema of connection 'wiki' must be http or https"),
        ({"host": "x", "extra": {"headers": [1]}}, "extra.headers of connection 'wiki' must be an object"),
    ],
)
def test_a_connection_that_cannot_be_used_is_an_error_that_names_the_field(fields, words):
    secret = ConnectionSecret("wiki", "mcp", password=KEY, **fields)
    ran = call_tool("", connections=Connections(secret))
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"].startswith(words)


def test_a_certificate_that_is_not_trusted_is_a_permanent_error(fake, https_certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*https_certificate)
    fake.socket = tls.wrap_socket(fake.socket, server_side=True)
    url = fake.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
    ran = call_tool(url)
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"].startswith("Server certificate is not trusted")
    trusted = wiki(url, extra={"verify": str(https_certificate[0])})
    assert call_tool(url, connections=Connections(trusted)).status == "COMPLETED"
    careless = wiki(url, extra={"verify": False})
    assert call_tool(url, connections=Connections(careless)).status == "COMPLETED"
