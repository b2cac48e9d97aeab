"""Redirects, with a real server on loopback that has two names."""

from __future__ import annotations

import pytest
from yarl import URL

from airflow_allma.engine.http_options import HttpOptions
from airflow_allma.engine.redirects import SentRequest, redirected
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.http_server import get, with_server


def test_redirects_are_followed():
    async def scenario(server, client):
        assert (await get(client, server.url + "/moved")).body == b"ok"
        assert server.requests[1][1] == "/there?token=hidden"

    with_server(scenario)


@pytest.mark.parametrize(
    ("path", "message"), [("/round", "More than 10 redirects"), ("/mail", "cannot be sent")]
)
def test_redirects_that_cannot_be_followed_are_permanent_errors(path, message):
    async def scenario(server, client):
        with pytest.raises(PermanentStepError, match=message):
            await get(client, server.url + path)

    with_server(scenario)


SECRETS = {
    "Authorization": "Bearer hidden",
    "Cookie": "a=hidden",
    "X-Api-Key": "hidden",
    "X-Auth-Token": "hidden",
    "x-functions-key": "hidden",
    "Key": "hidden",
    "X-OTP": "hidden",
    "X-User-Key": "hidden",
    "X-Upstream": "Bearer hidden",
    "X-Legacy": "basic aGlkZGVu",
}


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "GET", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "GET", "GET"),
        (308, "DELETE", "DELETE"),
    ],
)
def test_a_redirect_to_another_host_takes_nothing_secret_along(status, method, then):
    async def scenario(server, client):
        server.status = status
        server.location = server.url.replace("127.0.0.1", "localhost") + "/there"
        body = b"hidden" if method in {"POST", "PUT"} else None
        headers = {**SECRETS, "X-Page": "2", "Content-Type": "text/plain"}
        await get(client, server.url + "/redirect", method, headers=headers, body=body)
        sent_method, path, received, received_body = server.requests[1]
        assert (sent_method, path, received_body) == (then, "/there", b"")
        assert received["X-Page"] == "2"
        assert not {name.lower() for name in SECRETS} & {name.lower() for name in received}
        assert server.requests[0][2]["X-Api-Key"] == "hidden"

    with_server(scenario)


@pytest.mark.parametrize(("status", "method"), [(307, "POST"), (308, "PUT"), (302, "PATCH"), (301, "DELETE")])
def test_a_body_is_not_sent_to_another_host(status, method):
    async def scenario(server, client):
        server.status = status
        server.location = server.url.replace("127.0.0.1", "localhost") + "/there?sig=hidden"
        with pytest.raises(PermanentStepError, match="redirects to another host") as caught:
            await get(client, server.url + "/redirect", method, body=b"secret")
        assert "/there?sig=***" in caught.value.message
        assert "hidden" not in str(caught.value.as_dict())
        assert len(server.requests) == 1

    with_server(scenario)


@pytest.mark.parametrize(("status", "method"), [(307, "POST"), (308, "PUT"), (302, "PATCH")])
def test_a_redirect_on_the_same_host_keeps_headers_and_body(status, method):
    async def scenario(server, client):
        server.status, server.location = status, "/there"
        await get(client, server.url + "/redirect", method, headers=SECRETS, body=b"body")
        sent_method, path, received, body = server.requests[1]
        assert (sent_method, path, body) == (method, "/there", b"body")
        assert SECRETS.items() <= received.items()

    with_server(scenario)


def test_user_info_of_the_url_stays_on_its_host():
    async def scenario(server, client):
        server.status, server.location = 302, server.url + "/there"
        await get(client, server.url.replace("://", "://u:p@") + "/redirect")
        assert server.requests[1][2]["Authorization"] == server.requests[0][2]["Authorization"]
        server.location = server.url.replace("127.0.0.1", "localhost") + "/there"
        await get(client, server.url.replace("://", "://u:p@") + "/redirect")
        assert "Authorization" not in server.requests[3][2]

    with_server(scenario)


@pytest.mark.parametrize(
    ("url", "location", "keeps"),
    [
        ("http://h/a", "b", True),
        ("http://h/a", "//h/b", True),
        ("http://h/a", "https://h/a", True),
        ("http://H:80/a", "https://h:443/a", True),
        ("https://h/a", "http://h/a", False),
        ("http://h/a", "http://h:8080/a", False),
        ("http://h:8080/a", "https://h:8443/a", False),
        ("http://h/a", "http://sub.h/a", False),
        ("http://h/a", "http://h./a", False),
        ("http://h/a", "http://h@evil/a", False),
        ("http://h/a", "\\\\evil/a", True),
    ],
)
def test_another_host_another_port_and_plain_http_are_not_the_same_receiver(url, location, keeps):
    request = SentRequest("GET", URL(url), {"X-Api-Key": "k"}, None)
    assert bool(redirected(request, 307, location).headers) is keeps


def test_a_host_header_is_for_the_host_that_the_step_names():
    request = SentRequest("GET", URL("http://h/a"), {"Host": "inner.h", "X-Page": "2"}, None)
    assert redirected(request, 307, "/b").headers == {"Host": "inner.h", "X-Page": "2"}
    assert redirected(request, 307, "http://other/b").headers == {"X-Page": "2"}


def test_the_timeout_is_that_of_all_redirects_together():
    async def scenario(server, client):
        server.status, server.location = 302, "/hang"
        with pytest.raises(TransientStepError, match=r"No response within 0\.2 seconds"):
            await get(client, server.url + "/redirect", timeout=0.2)

    with_server(scenario)


def test_secret_headers_and_client_certificates_do_not_reach_another_host():
    options = HttpOptions(verify=False, cert=("c.pem", None), secret_headers=frozenset({"x-tenant"}))
    headers = {"X-Tenant": "planted", "X-Other": "kept"}
    sent = SentRequest("GET", URL("https://a.test/x"), headers, None, options)
    other = redirected(sent, 302, "https://b.test/y")
    assert other.headers == {"X-Other": "kept"}
    assert (other.options.verify, other.options.cert) == (True, None)
    same = redirected(sent, 302, "/y")
    assert (same.headers, same.options) == (headers, options)
    # Back on the first host, it gets nothing again: the other host chose what is asked there.
    back = redirected(other, 302, "https://a.test/z")
    assert back.headers == {"X-Other": "kept"}
