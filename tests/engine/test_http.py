"""The HTTP client against a real server on loopback."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_allma.engine.http import AiohttpClient, HttpResponse
from airflow_allma.engine.http_failures import classify_response, parse_retry_after
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.http_server import get, with_server


def untrusted_certificate(folder):
    """Return a TLS context for localhost with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "both.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


def test_a_response_has_status_plain_headers_and_the_whole_body():
    async def scenario(server, client):
        response = await get(client, server.url + "/twice")
        assert (response.status, response.body) == (200, b"")
        assert response.headers["x-a"] == "1, 2"
        assert (await get(client, server.url + "/status/404")).body == b"said so"
        assert (await get(client, server.url + "/gzip")).body == b"x" * 100_000
        assert (await get(client, server.url + "/x", "HEAD")).body == b""

    with_server(scenario)


@pytest.mark.parametrize(
    ("sent", "value"), [(b"J\xfcrgen", "Jürgen"), ("Jürgen".encode(), "Jürgen"), (b"\xff\xed\xa0", "ÿí\xa0")]
)
def test_a_header_of_a_response_is_never_broken_unicode(sent, value):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Name: " + sent + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main():
        client = AiohttpClient()
        async with await asyncio.start_server(answer, "127.0.0.1") as server:
            host, port = server.sockets[0].getsockname()
            response = await get(client, f"http://{host}:{port}/")
        await client.close()
        assert response.headers["x-name"] == value

    asyncio.run(main())


def test_a_request_is_sent_unchanged():
    async def scenario(server, client):
        await get(
            client, server.url + "/a%2Fb/../c?q=a%2Bb+c%20d", "POST", headers={"X-A": "1"}, body=b"body"
        )
        method, path, headers, body = server.requests[0]
        assert (method, path, body) == ("POST", "/a%2Fb/../c?q=a%2Bb+c%20d", b"body")
        assert headers["X-A"] == "1"
        assert headers["User-Agent"] == "airflow-allma"

    with_server(scenario)


def test_connections_are_reused_and_cookies_are_not_kept():
    async def scenario(server, client):
        await get(client, server.url + "/twice")
        await get(client, server.url + "/x")
        assert len(server.connections) == 1
        assert "Cookie" not in server.requests[1][2]

    with_server(scenario)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def scenario(server, client):
        assert (await get(client, server.url + "/x")).status == 200

    with_server(scenario)


def test_requests_in_flight_are_limited():
    async def scenario(server, client):
        answers = await asyncio.gather(*(get(client, server.url + "/slow") for _ in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert server.max_in_flight == 2

    with_server(scenario, AiohttpClient(limit=2))


def test_the_timeout_does_not_include_the_wait_for_a_slot():
    async def scenario(server, client):
        first = asyncio.create_task(get(client, server.url + "/hang"))
        second = asyncio.create_task(get(client, server.url + "/x", timeout=1))
        await asyncio.sleep(1.2)
        assert len(server.requests) == 1
        server.release.set()
        assert (await second).status == (await first).status == 200

    with_server(scenario, AiohttpClient(limit=1))


def test_a_late_response_is_a_transient_error_that_says_how_long_the_client_waited():
    async def scenario(server, client):
        with pytest.raises(TransientStepError) as caught:
            await get(client, server.url + "/hang?token=hidden", timeout=0.05)
        assert "No response within 0.05 seconds from GET http://127.0.0.1" in caught.value.message
        assert "/hang?token=***. " in caught.value.message
        assert "hidden" not in str(caught.value.as_dict())

    with_server(scenario)


def test_a_lost_connection_is_a_transient_error():
    async def scenario(server, client):
        with pytest.raises(TransientStepError, match=r"ServerDisconnectedError.* \(POST .*/cut\)"):
            await get(client, server.url + "/cut", "POST", body=b"x")

    with_server(scenario)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x?sig=hidden", "http://no-such-host.invalid/x?sig=hidden"]
)
def test_an_unreachable_server_is_a_transient_error_that_names_it(url):
    async def scenario(_server, client):
        with pytest.raises(TransientStepError) as caught:
            await get(client, url)
        assert url.replace("hidden", "***") in caught.value.message
        assert "hidden" not in caught.value.message
        assert caught.value.details["method"] == "GET"

    with_server(scenario)


@pytest.mark.parametrize("path", ["/big", "/gzip"])
def test_a_body_above_the_limit_is_rejected_even_if_it_is_compressed(path):
    async def scenario(server, client):
        with pytest.raises(PermanentStepError, match="More than 10000 bytes"):
            await get(client, server.url + path)
        assert (await get(client, server.url + "/x")).body == b"ok"

    with_server(scenario, AiohttpClient(max_bytes=10_000))


def test_an_untrusted_certificate_is_rejected(tmp_path):
    async def scenario(server, client):
        with pytest.raises(PermanentStepError, match="certificate is not trusted"):
            await get(client, server.url + "/x")
        assert server.requests == []

    with_server(scenario, tls=untrusted_certificate(tmp_path))


def test_a_header_that_cannot_be_sent_is_a_permanent_error():
    async def scenario(server, client):
        with pytest.raises(PermanentStepError, match="cannot be sent"):
            await get(client, server.url + "/x", headers={"X": "a\r\nY: b"})
        assert server.requests == []

    with_server(scenario)


def test_one_client_serves_one_event_loop_after_another():
    client = AiohttpClient()

    async def scenario(server, client):
        assert (await get(client, server.url + "/x")).status == 200
        await client.close()
        assert (await get(client, server.url + "/x")).status == 200

    with_server(scenario, client)
    with_server(scenario, client)


def test_closing_an_unused_client_does_nothing():
    asyncio.run(AiohttpClient().close())


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_a_success(status):
    assert classify_response("GET", "http://h", HttpResponse(status)) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, TransientStepError),
        (500, TransientStepError),
        (503, TransientStepError),
        (599, TransientStepError),
        (304, PermanentStepError),
        (400, PermanentStepError),
        (404, PermanentStepError),
        (499, PermanentStepError),
    ],
)
def test_other_statuses_are_errors_that_name_request_status_and_body(status, kind):
    response = HttpResponse(status, {}, b"the\r\n\x1b[31mbody " + b"x" * 5000)
    with pytest.raises(kind) as caught:
        classify_response("PUT", "https://u:p@h/x?apiKey=hidden", response)
    assert type(caught.value) is kind
    message = caught.value.message
    assert message.startswith(f"{status} from PUT https://***@h/x?apiKey=***: the [31mbody xxx")
    assert len(caught.value.details["body"]) == 500
    assert caught.value.details["status"] == status
    assert message.isprintable()


def test_the_error_of_a_redirect_that_was_not_followed_names_its_location():
    response = HttpResponse(304, {"location": "/x?token=hidden"}, b"")
    with pytest.raises(PermanentStepError, match=r"empty body\. \(location: /x\?token=\*\*\*\)"):
        classify_response("GET", "http://h", response)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("7", None, 7),
        (" 0 ", None, 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW, 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), NOW, 0),
        ("Sunday, 01-Mar-26 12:00:05 GMT", NOW, 5),
        ("soon", NOW, None),
        ("-3", NOW, None),
        ("²", NOW, None),
        ("", NOW, None),
    ],
)
def test_retry_after_is_parsed_as_seconds_or_as_a_date(text, date, seconds):
    headers = {"retry-after": text}
    if date is not None:
        headers["date"] = format_datetime(date, usegmt=True)
    assert parse_retry_after(HttpResponse(503, headers)) == seconds
    with pytest.raises(TransientStepError) as caught:
        classify_response("GET", "http://h", HttpResponse(429, headers))
    assert caught.value.retry_after == seconds


def test_without_a_date_header_a_retry_date_is_compared_with_the_local_clock():
    until = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    assert 7000 < parse_retry_after(HttpResponse(503, {"retry-after": until})) <= 7200


def test_the_fake_replies_in_turn_and_records_requests():
    async def scenario():
        fake = FakeHttpClient()
        fake.route("GET", "http://h/a", HttpResponse(500), json_response({"n": 1}))
        fake.route("GET", "http://h/*", TransientStepError("down"))
        fake.route("POST", "http://h/*", lambda request: json_response(request.json(), 201))
        assert [(await get(fake, "http://h/a")).status for _ in range(3)] == [500, 200, 200]
        with pytest.raises(TransientStepError, match="down"):
            await get(fake, "http://h/b")
        echoed = await get(fake, "http://h/c", "POST", body=b'{"x":1}')
        assert (echoed.status, echoed.body) == (201, b'{"x":1}')
        with pytest.raises(PermanentStepError, match="matches DELETE http://h/a; routes: GET http://h/a"):
            await get(fake, "http://h/a", "DELETE")
        assert [request.method for request in fake.requests] == ["GET"] * 4 + ["POST", "DELETE"]
        await fake.close()
        assert fake.closed

    asyncio.run(scenario())
