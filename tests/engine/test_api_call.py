from __future__ import annotations

import asyncio

import pytest

from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.api_call import ApiCall
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from airflow_allma.flow import ApiCallStep

CONTEXT = {
    "base": "https://api.test",
    "currentItem": {"id": 7, "name": "a b", "tags": ["x", "y"]},
    "flow_variables": {"key": "k-1", "on": True, "big": 1e21},
    "order": {"lines": [{"sku": "A", "n": 1, "secret": 0}, {"sku": "B", "n": 2}]},
}


def step(url="https://api.test/x", method="GET", **fields):
    template = url if isinstance(url, dict) else {"template": url}
    return ApiCallStep.model_validate(
        {
            "stepInstanceId": "call",
            "stepType": "API_CALL",
            "apiUrlTemplate": template,
            "apiHttpMethod": method,
            **fields,
        }
    )


def run(api_step, *answers, step_input=None, load=None):
    """Return the output of the step and its request; the fake replies to any URL."""

    async def main():
        fake = FakeHttpClient()
        fake.route(api_step.api_http_method, "http*", *(answers or (json_response({"ok": True}),)))
        call = StepCall(
            step_id="call",
            input=step_input or {},
            context=CONTEXT,
            info=RunInfo("flow", 1, "run-9", "2026-03-01T00:00:00.000Z"),
            services=Services(http=fake),
            load=load or _no_load,
        )
        output = await ApiCall(api_step)(call)
        return output, fake.requests[0]

    return asyncio.run(main())


def _no_load(inner):
    raise AssertionError(f"nothing is to be loaded: {inner}")


def sent(api_step, **more):
    return run(api_step, **more)[1]


@pytest.mark.parametrize(
    ("url", "rendered"),
    [
        ("{{base}}/products/{{currentItem.id}}", "https://api.test/products/7"),
        ("https://api.test/{{flowExecutionId}}/{{extra}}", "https://api.test/run-9/from-input"),
        ("https://api.test/{{missing}}", "https://api.test/"),
        ("https://api.test/{{currentItem.name}}?q={{currentItem.name}}", "https://api.test/a%20b?q=a%20b"),
        (
            {
                "template": "https://api.test/{{base}}/{{tags}}/{{currentItem.id}}",
                "contextMappings": {
                    "base": {"sourceJsonPath": "$.currentItem.name"},
                    "tags": {
                        "sourceJsonPath": "$.currentItem.tags",
                        "formatAs": "CUSTOM_STRING",
                        "itemTemplate": "{{this}}",
                        "joinSeparator": "-",
                    },
                    "nothing": {"sourceJsonPath": "$.no.such"},
                },
            },
            "https://api.test/a%20b/x-y/7",
        ),
    ],
)
def test_the_url_sees_the_whole_context_and_its_own_mappings_on_top(url, rendered):
    assert sent(step(url), step_input={"extra": "from-input"}).url == rendered


def test_headers_are_constants_or_paths_or_templates():
    request = sent(
        step(
            apiStaticHeaders={"X-Fixed": "{{base}}", "authorization": "old", "Content-Length": "5"},
            apiHeadersTemplate={
                "X-Path": "$.flow_variables.key",
                "X-Number": "$.flow_variables.big",
                "X-On": "$.flow_variables.on",
                "Authorization": "Bearer {{flow_variables.key}}",
                "X-Missing": "$.no.such",
            },
        )
    )
    assert request.headers == {
        "X-Fixed": "{{base}}",
        "Authorization": "Bearer k-1",
        "X-Path": "k-1",
        "X-Number": "1e+21",
        "X-On": "true",
    }


def test_a_header_whose_value_is_an_object_is_not_sent_and_is_logged(caplog):
    assert sent(step(apiHeadersTemplate={"X-Item": "$.currentItem"})).headers == {}
    assert "Header 'X-Item' is not sent" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"apiStaticHeaders": {"X": "a\r\nSet-Cookie: b"}}, "header 'X' contains line breaks"),
        ({"apiHeadersTemplate": {"X": "$.evil"}}, "header 'X' contains line breaks"),
        ({"apiHeadersTemplate": {"X": "a{{evil}}"}}, "header 'X' contains line breaks"),
        ({"apiStaticHeaders": {"a b": "c"}}, "'a b' is not a valid header name"),
        ({"apiStaticHeaders": {"": "c"}}, "'' is not a valid header name"),
    ],
)
def test_headers_cannot_be_injected(fields, message):
    with pytest.raises(PermanentStepError, match=message) as caught:
        run(step(**fields), step_input={"evil": "hidden\nX-B: 1"})
    assert "hidden" not in caught.value.message


BODY = {
    "lines": {"sourceJsonPath": "$.order.lines", "selectFields": ["sku"]},
    "key": {"sourceJsonPath": "$.flow_variables.key"},
    "gone": {"sourceJsonPath": "$.no.such"},
}


@pytest.mark.parametrize(
    ("fields", "body", "content_type"),
    [
        (
            {"requestBodyTemplate": BODY, "customConfig": {"requestBodyPath": "$.currentItem"}},
            b'{"lines":[{"sku":"A"},{"sku":"B"}],"key":"k-1"}',
            "application/json",
        ),
        (
            {"requestBodyTemplate": {}, "customConfig": {"requestBodyPath": "$.currentItem.tags"}},
            b'["x","y"]',
            "application/json",
        ),
        ({"customConfig": {"requestBodyPath": "$.currentItem.id"}}, b"7", "application/json"),
        ({"customConfig": {"requestBodyPath": "$.currentItem.name"}}, b"a b", "text/plain; charset=utf-8"),
        ({"customConfig": {"requestBodyPath": "$.no.such"}}, None, None),
        ({}, None, None),
        (
            {
                "customConfig": {"requestBodyPath": "$.currentItem"},
                "apiStaticHeaders": {"content-type": "application/vnd.x+json"},
            },
            b'{"id":7,"name":"a b","tags":["x","y"]}',
            "application/vnd.x+json",
        ),
        (
            {
                "customConfig": {"requestBodyPath": "$.currentItem"},
                "apiStaticHeaders": {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            },
            b"id=7&name=a+b&tags=x&tags=y",
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
    ],
)
def test_the_body_is_rendered_from_the_template_or_found_by_the_path(fields, body, content_type):
    request = sent(step(method="POST", **fields))
    assert request.body == body
    assert {name.lower(): value for name, value in request.headers.items()}.get(
        "content-type"
    ) == content_type


def test_a_form_cannot_contain_objects():
    with pytest.raises(PermanentStepError, match="cannot contain the object in 'lines'"):
        run(
            step(
                method="POST",
                customConfig={"requestBodyPath": "$.order"},
                apiStaticHeaders={"Content-Type": "application/x-www-form-urlencoded"},
            )
        )


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_every_method_can_be_used(method):
    assert sent(step(method=method)).method == method


@pytest.mark.parametrize(
    ("config", "seconds"), [({}, 10), ({"timeoutMs": 250}, 0.25), ({"timeoutMs": 1.5e3}, 1.5)]
)
def test_the_timeout_is_ten_seconds_unless_the_step_sets_it(config, seconds):
    assert sent(step(customConfig=config)).timeout == seconds


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("inf")])
def test_an_invalid_timeout_is_rejected(timeout):
    with pytest.raises(PermanentStepError, match="timeoutMs must be a number of milliseconds above 0"):
        run(step(customConfig={"timeoutMs": timeout}))


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b'{"n": 12345678901234567890, "f": 1.5}', "text/plain", {"n": 12345678901234567890, "f": 1.5}),
        (b"\xef\xbb\xbf[1]", "application/json", [1]),
        (b"null", "application/json", None),
        (b" 42 ", "", 42),
        (b"", "application/json", ""),
        (b"hello", "text/plain", "hello"),
        (b"{oops", "application/json", "{oops"),
        (b"NaN", "application/json", "NaN"),
        (b"caf\xe9", "text/plain; charset=ISO-8859-1", "café"),
        (b"caf\xc3\xa9", 'text/html; Charset="utf-8"; x=1', "café"),
        (b"caf\xc3\xa9", "text/plain; charset=klingon", "café"),
        (b"\xff", "image/png", "\ufffd"),
        (b"[" * 100_000, "application/json", "[" * 100_000),
        # Charsets: the byte order mark, the declared one, UTF-8.
        (b'{"a":"\xe9","id":5}', "application/json; charset=iso-8859-1", {"a": "é", "id": 5}),
        (b'{"a":"\xe9"}', "text/plain; charset=windows-1252", {"a": "é"}),
        ('{"a":"é"}'.encode(), "application/json; charset=iso-8859-1", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16"), "application/json; charset=utf-16", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-le"), "application/json; charset=utf-16", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-be"), "application/json; charset=utf-16", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-be"), "application/json", {"a": "é"}),
        ('[1,"é"]'.encode("utf-32"), "application/json", [1, "é"]),
        (b'{"a":"\x8a\xbf"}', "application/json; charset=Shift_JIS", {"a": "漢"}),
        ("模".encode("gbk"), "text/plain; charset=x-gbk", "模"),
        (b'"\xff\xfe"', "application/json; charset=KOI8-R", "ЪЧ"),
        # What JSON.parse of the original accepts and msgspec does not.
        (b'{"name":"abc\\ud83d","id":5}', "application/json", {"name": "abc\ufffd", "id": 5}),
        (b'{"name":"\\\\ud83d","id":5}', "application/json", {"name": "\\ud83d", "id": 5}),
        (b'["\\udc00\\ud83d\\ude00"]', "application/json", ["\ufffd😀"]),
        (b'{"a":"\xe9","id":5}', "application/json", {"a": "\ufffd", "id": 5}),
        (b'{"n":' + b"9" * 400 + b"}", "application/json", {"n": 10**400 - 1}),
        (b'{"n":1e-400,"n":2e-400}', "application/json", {"n": 0}),
        (b'{"a":1}{"a":2}', "application/json", '{"a":1}{"a":2}'),
        (b'{"a":NaN}', "application/json", '{"a":NaN}'),
    ],
)
def test_data_is_json_if_possible_and_text_otherwise(body, content_type, data):
    output, _ = run(step(), HttpResponse(201, {"content-type": content_type}, body))
    assert output["data"] == data
    assert output["status"] == 201
    assert output["headers"] == {"content-type": content_type}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":1e400,"id":5}', "the number 1e400 is out of range; write it as a string"),
        (b'["-1E+309"]', None),
        (b"[-1E+309]", "the number -1E+309 is out of range"),
        (b"9" * 5000, "the number 999999999999999999999999999999... is out of range"),
        (b"[" * 1500 + b"]" * 1500, "it is nested too deeply"),
        (b'{"a":' * 1500 + b'"]"' + b"}" * 1500, "it is nested too deeply"),
        (b"\xff\xfe[\x001\x00e\x009\x009\x009\x00]\x00", "the number 1e999 is out of range"),
    ],
)
def test_json_that_no_value_can_hold_is_an_error_and_never_a_string(body, reason):
    response = HttpResponse(200, {"content-type": "application/json"}, body)
    if reason is None:
        assert run(step(), response)[0]["data"] == ["-1E+309"]
        return
    with pytest.raises(PermanentStepError) as caught:
        run(step("https://api.test/x?token=hidden"), response)
    assert caught.value.message.startswith(
        "The response of GET https://api.test/x?token=*** is JSON that cannot be read: "
    )
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("body", "content_type", "warning"),
    [
        (b'{"a":"\\ud83d"}', "application/json", "half of a surrogate pair"),
        (b'{"a":"\xe9"}', "application/json", "byte 6 is not valid UTF-8; such bytes became"),
        (b'{"a":"\x81"}', "application/json; charset=windows-1252", "byte 6 is not valid CP1252"),
        (b"caf\xc3\xa9", "text/plain; charset=klingon", "the charset 'klingon' is unknown; UTF-8 was used"),
        (b"x", "text/plain; charset=zip", "the charset 'zip' is unknown"),
        (b"<html>", "application/json", "it is not JSON, although its content type says so"),
        (b'{"a":', "application/problem+json; charset=utf-8", "it is not JSON, although"),
        (b"\xff\xd8\xff", "image/jpeg", "replacement characters"),
        (b'{"a":1}', "text/html", None),
        (b"<html>", "text/html", None),
        (b"", "application/json", None),
        (b"plain", "text/plain; charset=us-ascii", None),
    ],
)
def test_what_is_lost_of_a_body_is_a_warning_in_the_log(caplog, body, content_type, warning):
    run(step(), HttpResponse(200, {"content-type": content_type}, body))
    if warning is None:
        assert caplog.text == ""
    else:
        assert warning in caplog.text
        assert "(step call)" in caplog.text


@pytest.mark.parametrize(
    ("fields", "data", "warning"),
    [
        ({"apiHeadersTemplate": {"X-A": "{{missing}}"}}, {}, "Header 'X-A' is sent empty"),
        ({"apiHeadersTemplate": {"X-A": "$.empty"}}, {"empty": ""}, "Header 'X-A' is sent empty"),
        ({"apiHeadersTemplate": {"X-A": " {{missing}} "}}, {}, "Header 'X-A' is sent empty"),
        ({"apiHeadersTemplate": {"X-A": "$.missing"}}, {}, None),
        ({"apiHeadersTemplate": {"X-A": "Bearer {{missing}}"}}, {}, None),
        ({"apiStaticHeaders": {"X-A": ""}}, {}, None),
        ({"url": "https://api.test/users/{{missing}}/x"}, {}, "has an empty segment (number 2)"),
        ({"url": "https://api.test/users/{{#if a}}{{a}}{{/if}}/x"}, {}, "has an empty segment (number 2)"),
        ({"url": "https://api.test/{{a}}"}, {"a": "b?c"}, "sent as %3F"),
        ({"url": "https://api.test/{{a}}"}, {"a": "b"}, None),
    ],
)
def test_a_template_that_sends_nothing_is_a_warning_in_the_log(caplog, fields, data, warning):
    run(step(**fields), step_input=data)
    assert (warning in caplog.text) if warning else caplog.text == ""


def test_the_meta_of_the_output_names_the_called_url_without_secrets():
    output, request = run(step("https://api.test/x?apiKey={{flow_variables.key}}"))
    assert request.url == "https://api.test/x?apiKey=k-1"
    assert output["_meta"] == {"method": "GET", "url": "https://api.test/x?apiKey=***"}


@pytest.mark.parametrize(("status", "kind"), [(404, PermanentStepError), (503, TransientStepError)])
def test_an_error_status_fails_the_step(status, kind):
    with pytest.raises(kind, match=rf"{status} from GET https://api.test/x: no luck") as caught:
        run(step(), HttpResponse(status, {"retry-after": "3"}, b"no luck"))
    assert getattr(caught.value, "retry_after", 3) == 3


def test_a_url_from_the_data_must_be_http():
    with pytest.raises(PermanentStepError, match=r"The URL 'file:///etc/passwd' must begin with http"):
        run(step("{{where}}"), step_input={"where": "file:///etc/passwd"})


def test_pointers_are_loaded_before_the_request_is_sent():
    class _NotLoaded(BaseException):
        pass

    def load(inner):
        if inner["key"] == "later":
            raise _NotLoaded
        return {"id": 5}

    def pointer(key):
        return {"_s3_output_pointer": {"bucket": "b", "key": key}}

    url = "https://api.test/{{first.id}}"
    assert sent(step(url), step_input={"first": pointer("now")}, load=load).url == "https://api.test/5"
    not_yet = step(url, method="POST", customConfig={"requestBodyPath": "$.second.id"})
    fake_answer = AssertionError("sent before everything was loaded")
    with pytest.raises(_NotLoaded):
        run(not_yet, fake_answer, step_input={"first": pointer("now"), "second": pointer("later")}, load=load)
