"""API_CALL with connections and Variables: what is sent, what is refused, and that nothing shows secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from urllib.parse import unquote

import pytest

from airflow_allma.engine import RunInfo, SegmentStatus, Services, compile_flow, run_segment
from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.outside_calls import describe
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import SecretUnavailableError
from airflow_allma.flow import parse_flow
from tests.support.secrets import SecretsInMemory

SHOP = {
    "id": "shop",
    "host": "https://api.shop.test/v2/",
    "login": "planted-login",
    "password": "planted-password",
    "extra": {
        "headers": {"X-Tenant": "planted-header"},
        "timeout": 7,
        "region": "planted-region",
        "size": 25,
    },
}
CONNECTIONS = [
    SHOP,
    {"id": "bearer", "host": "api.test", "schema": "https", "port": 8443, "password": "planted-token"}
    | {"extra": {"auth": "bearer"}},
    {"id": "no-host", "password": "planted-password", "login": "me"},
    {"id": "with.dots", "host": "api.test", "password": "planted-password"},
    {"id": "plain", "host": "http://api.test"},
    {"id": "typed", "kind": "https", "host": "api.test"},
]
VARIABLES = {
    "token": "planted-variable",
    "lines": "planted-a\r\nX-Evil: planted-b",
    "path": "planted/../../admin",
    "number": "12345678",
}
BASIC = base64.b64encode(b"planted-login:planted-password").decode()


def api_call(url, *, headers=None, **fields):
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": url},
        **({"apiHeadersTemplate": headers} if headers else {}),
        **fields,
    }


class Ran:
    """What a flow of one step did."""

    def __init__(
        self, step, *answers, payload=None, connections=CONNECTIONS, variables=VARIABLES, client=None
    ):
        self.http = FakeHttpClient()
        for method in ("GET", "POST"):
            self.http.route(method, "http*", *(answers or (json_response({"ok": True}),)))
        self.records = []
        self.source = SecretsInMemory(connections, variables)
        flow = parse_flow({"id": "f", "startStepInstanceId": "call", "steps": {"call": step}})
        program = compile_flow(flow)

        async def sleep(_):
            pass

        async def main():
            services = Services(
                http=client or self.http,
                secrets=Secrets(self.source),
                recorder=self.records.append,
                sleep=sleep,
            )
            info = RunInfo("f", 1, "run", "2026-03-01T00:00:00.000Z")
            try:
                return await run_segment(program, program.start_state(payload or {}, "run"), info, services)
            finally:
                await services.close()

        self.result = asyncio.run(main())
        self.context = self.result.state.context

    @property
    def request(self):
        return self.http.requests[0]

    @property
    def error(self):
        assert self.result.status is SegmentStatus.FAILED, self.context
        return self.result.error

    def shown(self):
        """Return all that the engine hands on about the run, as text."""
        calls = [describe(call) for record in self.records for call in record.calls.last]
        records = [repr(record) for record in self.records]
        return json.dumps([self.context, self.result.error, calls, records])


@pytest.mark.parametrize(
    ("step", "url", "headers"),
    [
        (
            api_call("/orders/{{id}}", connection="shop"),
            "https://api.shop.test/v2/orders/7",
            {"X-Tenant": "planted-header", "Authorization": f"Basic {BASIC}"},
        ),
        (
            api_call("{{path}}?q=1", connection="shop"),
            "https://api.shop.test/v2/a/b?q=1",
            {"X-Tenant": "planted-header", "Authorization": f"Basic {BASIC}"},
        ),
        (
            api_call("https://api.shop.test/other", connection="shop", headers={"x-tenant": "own"}),
            "https://api.shop.test/other",
            {"x-tenant": "own", "Authorization": f"Basic {BASIC}"},
        ),
        (
            api_call("/x", connection="bearer"),
            "https://api.test:8443/x",
            {"Authorization": "Bearer planted-token"},
        ),
        (
            api_call("https://other.test/x", connection="no-host"),
            "https://other.test/x",
            {"Authorization": f"Basic {base64.b64encode(b'me:planted-password').decode()}"},
        ),
        (api_call("/x", connection="plain"), "http://api.test/x", {}),
        (api_call("/x", connection="typed"), "https://api.test/x", {}),
        (
            api_call("https://api.test/x", headers={"Authorization": "Bearer {{var.token}}"}),
            "https://api.test/x",
            {"Authorization": "Bearer planted-variable"},
        ),
        (
            api_call(
                "https://api.test/x?key={{conn.shop.extra.region}}&n={{conn.shop.extra.size}}",
                headers={
                    "X-A": "{{conn.shop.login}}:{{conn.[with.dots].password}}",
                    "X-B": "{{base64 conn.shop.password}}",
                    "X-C": "{{conn.name}} {{conn.shop.note}} {{var}}",
                },
            ),
            "https://api.test/x?key=planted-region&n=25",
            {
                "X-A": "planted-login:planted-password",
                "X-B": base64.b64encode(b"planted-password").decode(),
                "X-C": "data note [object Object]",
            },
        ),
        (
            api_call("https://{{conn.bearer.host}}:{{conn.bearer.port}}/{{id}}"),
            "https://api.test:8443/7",
            {},
        ),
    ],
)
def test_a_request_gets_what_its_connections_and_variables_say(step, url, headers):
    payload = {"id": 7, "path": "/a/b", "conn": {"name": "data", "shop": {"note": "note"}}, "var": {"a": 1}}
    ran = Ran(step, payload=payload)
    assert ran.result.error is None
    assert (ran.request.url, ran.request.headers) == (url, headers)
    assert "planted" not in ran.shown()
    for encoded in (BASIC, base64.b64encode(b"planted-password").decode()):
        assert encoded not in ran.shown()
    assert ran.context["conn"] == payload["conn"]


def test_the_timeout_is_the_steps_own_or_that_of_the_connection():
    assert Ran(api_call("/x", connection="shop")).request.timeout == 7
    own = api_call("/x", connection="shop", customConfig={"timeoutMs": 2500})
    assert Ran(own).request.timeout == 2.5
    assert Ran(api_call("/x", connection="plain")).request.timeout == 10


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (api_call("/x", connection="gone"), "Connection 'gone' does not exist. Set AIRFLOW_CONN_X"),
        (api_call("https://a.test/", headers={"X": "{{var.gone}}"}), "Variable 'gone' does not exist"),
        (api_call("/x", connection="no-host"), "needs the host of connection 'no-host', which has none"),
        (
            api_call("{{base}}/x", connection="no-host"),
            "needs the host of connection 'no-host', which has none",
        ),
        (api_call("https://evil.test/x", connection="shop"), "is not on the host of connection 'shop'"),
        (api_call("{{base}}/x", connection="shop"), "is not on the host of connection 'shop'"),
        (api_call("http://api.shop.test/x", connection="shop"), "is not on the host of connection 'shop'"),
        (api_call("/{{up}}/x", connection="shop"), "has a '..' segment from a value"),
        (api_call("https://{{conn.bearer.host}}{{more}}/x"), "does not have the host of the connection"),
        (api_call("https://{{more}}{{conn.bearer.host}}/x"), "does not have the host of the connection"),
        (api_call("https://{{conn.shop.host}}/x"), "does not have the host of the connection"),
        (api_call("{{base}}{{conn.bearer.host}}/x"), "does not have the host of the connection"),
        (api_call("https://a.test/{{var.lines}}"), "contains line breaks or control characters"),
        (api_call("https://a.test/{{var.path}}"), "has a '..' segment from a value"),
        (
            api_call("https://a.test/", headers={"X-Y": "{{var.lines}}"}),
            "value of header 'X-Y' contains line breaks",
        ),
        (api_call("https://a.test/{{conn.plain.password}}"), "Connection 'plain' has no password"),
        (api_call("https://a.test/{{conn.plain.port}}"), "Connection 'plain' has no port"),
        (api_call("https://a.test/{{conn.plain.extra.key}}"), "Connection 'plain' has no extra.key"),
        (
            api_call("https://a.test/{{conn.shop.extra.headers}}"),
            "extra.headers of connection 'shop' must be a str",
        ),
    ],
)
def test_what_cannot_be_sent_is_a_permanent_error_without_secrets(step, message):
    ran = Ran(step, payload={"base": "https://evil.test", "up": "..", "more": ".evil.test"})
    assert message in ran.error["errorMessage"]
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.http.requests == []
    assert "planted" not in ran.shown()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extra": {"headers": ["planted"]}}, "extra.headers of connection 'c' must be an object of strings"),
        ({"extra": {"headers": "planted"}}, "extra.headers of connection 'c' must be an object of strings"),
        ({"extra": {"headers": {"X-A": 12345}}}, "extra.headers['X-A'] of connection 'c' must be a string"),
        ({"extra": {"headers": {"X-A": None}}}, "extra.headers['X-A'] of connection 'c' must be a string"),
        ({"extra": {"headers": {"X A": "planted"}}}, "'X A' is not a valid header name"),
        ({"extra": {"headers": {"X-A": "planted\r\nX-B: c"}}}, "value of header 'X-A' contains line breaks"),
        ({"extra": {"auth": "bearer"}}, "password of connection 'c' is empty"),
        ({"extra": {"auth": "planted"}}, 'extra.auth of connection \'c\' must be "bearer" or "basic"'),
        (
            {"extra": {"auth": "bearer"}, "password": "planted\n"},
            "header 'Authorization' contains line breaks",
        ),
        ({"login": "planted:x"}, "login of connection 'c' must not contain ':'"),
        ({"extra": {"verify": 1}}, "extra.verify of connection 'c' must be true, false"),
        ({"extra": {"cert": {}}}, "extra.cert of connection 'c' must be the path"),
        ({"extra": {"timeout": -1}}, "extra.timeout of connection 'c' must be a number"),
        ({"extra": {"timeout": [1, 2, 3]}}, "extra.timeout of connection 'c' must be a number"),
        ({"extra": {"timeout": "soon"}}, "extra.timeout of connection 'c' must be a number"),
        ({"schema": "ftp"}, "schema of connection 'c' must be http or https"),
        ({"host": "ftp://api.test"}, "schema of connection 'c' must be http or https"),
        ({"host": "https://me:planted@api.test"}, "host of connection 'c' must be a host"),
        ({"host": "api.test?key=planted"}, "host of connection 'c' must be a host"),
        ({"host": "api.test#planted"}, "host of connection 'c' must be a host"),
        ({"host": "api .test"}, "host of connection 'c' must be a host"),
        ({"host": "api.test:port"}, "host of connection 'c' must be a host"),
        ({"host": "https://"}, "host of connection 'c' must be a host"),
    ],
)
def test_a_connection_that_is_not_valid_is_an_error_that_names_the_field(fields, message):
    ran = Ran(api_call("/x", connection="c"), connections=[{"id": "c", "host": "api.test", **fields}])
    assert message in ran.error["errorMessage"]
    assert ran.http.requests == []
    assert "planted" not in ran.shown()


@pytest.mark.parametrize(
    ("extra", "verify", "cert", "connect", "timeout"),
    [
        ({}, True, None, None, 10),
        ({"verify": False}, False, None, None, 10),
        ({"verify": "false", "timeout": "5"}, False, None, None, 5),
        ({"verify_ssl": False}, False, None, None, 10),
        ({"verify": "/etc/ca.pem"}, "/etc/ca.pem", None, None, 10),
        ({"cert": "/etc/both.pem"}, True, ("/etc/both.pem", None), None, 10),
        ({"cert": ["/etc/c.pem", "/etc/k.pem"]}, True, ("/etc/c.pem", "/etc/k.pem"), None, 10),
        ({"timeout": [2, 30]}, True, None, 2, 30),
    ],
)
def test_tls_and_timeouts_are_those_of_the_connection(extra, verify, cert, connect, timeout):
    request = Ran(
        api_call("/x", connection="c"), connections=[{"id": "c", "host": "api.test", "extra": extra}]
    ).request
    assert (request.options.verify, request.options.cert) == (verify, cert)
    assert (request.options.connect_seconds, request.timeout) == (connect, timeout)


def test_keys_of_extra_without_effect_are_logged_once_by_name(caplog):
    extra = {"X-Key": "planted", "proxies": {}, "headers": {}}
    step = api_call("/{{conn.c.extra.used}}", connection="c")
    with caplog.at_level(logging.WARNING):
        Ran(
            step,
            HttpResponse(503),
            json_response({}),
            connections=[{"id": "c", "host": "api.test", "extra": extra | {"used": "u"}}],
        )
    (record,) = caplog.records
    assert record.getMessage() == (
        "extra of connection 'c': X-Key, proxies without effect (step call). "
        "Headers belong into extra.headers"
    )


ECHO = (
    "Denied planted-variable, Basic "
    + BASIC
    + ' {"t": "planted-variable"} '
    + "." * 470
    + "planted-variable" * 9
)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_server_that_echoes_secrets_in_an_error_page_does_not_get_them_into_errors(status, caplog):
    step = api_call("/x?t={{var.token}}", connection="shop", method="GET")
    with caplog.at_level(logging.DEBUG):
        ran = Ran(step, HttpResponse(status, {}, ECHO.encode()))
    assert "Denied ***, ***" in ran.error["errorMessage"]
    assert "?t=***" in ran.error["errorDetails"]["url"]
    assert "planted" not in ran.shown() + caplog.text
    assert BASIC not in ran.shown() + caplog.text


def test_a_good_answer_that_echoes_a_secret_is_the_flows_data_and_masked_in_records():
    step = api_call("https://api.test/", headers={"X": "{{var.token}}"})
    ran = Ran(step, json_response({"you": "planted-variable"}))
    assert ran.context["steps_output"]["call"]["data"] == {"you": "planted-variable"}
    (record,) = ran.records
    assert record.output["data"] == {"you": "***"}


def test_a_source_that_does_not_answer_is_a_transient_error():
    step = api_call("https://api.test/", headers={"X": "{{var.token}}"})
    ran = Ran(step, variables={"token": [SecretUnavailableError("away"), "planted"]})
    assert ran.result.status is SegmentStatus.COMPLETED
    assert ran.records[0].tries == 2
    failed = Ran(step, variables={"token": [SecretUnavailableError("The API server is away.")]})
    assert failed.error["errorName"] == "TransientStepError"
    assert failed.error["isRetryable"] is True


def test_a_secret_is_not_visible_to_the_body_and_to_paths():
    step = api_call(
        "https://api.test/",
        headers={"X": "{{var.token}}", "Y": "$.var.token"},
        apiHttpMethod="POST",
        requestBodyTemplate={"all": {"sourceJsonPath": "$"}},
    )
    ran = Ran(step)
    assert b"planted" not in ran.request.body


def test_steps_without_secrets_look_nothing_up():
    assert Ran(api_call("https://api.test/{{x}}")).source.lookups == []


NASTY = 'planted "a"&b=%2F é</p>'


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_a_server_that_cannot_be_reached_does_not_get_secrets_into_errors(base):
    step = api_call(
        "/x/{{var.token}}?t={{var.token}}",
        headers={"X-Token": "{{{conn.c.password}}}"},
        connection="c",
        customConfig={"timeoutMs": 5000},
    )
    connection = {"id": "c", "host": base, "login": "planted-login", "password": "planted-password"}
    ran = Ran(step, client=AiohttpClient(), connections=[connection], variables={"token": NASTY})
    assert ran.error["errorName"] == "TransientStepError"
    assert f"{base}/x/***?t=***" in ran.error["errorMessage"]
    assert "planted" not in ran.shown()


def test_an_error_page_that_echoes_the_whole_request_shows_nothing_of_its_secrets():
    def echo(request):
        values = [request.url, unquote(request.url), *request.headers.values()]
        values += [base64.b64encode(value.encode()).decode() for value in values]
        return HttpResponse(422, {}, json.dumps(values).encode())

    headers = {
        "X-Made": "{{base64 conn.shop.password}}:{{id}}",
        "X-Both": "{{conn.shop.login}} {{var.token}}",
    }
    step = api_call("/x?t={{var.token}}", connection="shop", headers=headers)
    ran = Ran(step, echo, payload={"id": 7}, variables={"token": NASTY})
    assert ran.error["errorDetails"]["status"] == 422
    encoded = base64.b64encode(b"planted").decode()[:9]
    again = base64.b64encode(encoded.encode()).decode()[:9]
    assert not [part for part in ("planted", encoded, again) if part in ran.shown()]


def test_the_host_of_a_connection_can_have_other_letters_than_ascii():
    connection = {"id": "c", "host": "https://bücher.test"}
    assert (
        Ran(api_call("/x", connection="c"), connections=[connection]).request.url
        == "https://xn--bcher-kva.test/x"
    )
