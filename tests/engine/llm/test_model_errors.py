"""Failed requests of models: which error each becomes, and that no message shows a key."""

from __future__ import annotations

import json

import pytest

from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_request import RateLimitedError
from airflow_allma.engine.llm.rate_limit_headers import anthropic_limits, openai_limits, parse_duration
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.model_calls import KEY, ModelCalls


def failure(provider, *replies, connection=None, **request):
    http = FakeHttpClient().route("POST", "http*", *replies)
    calls = ModelCalls(provider, {"host": "https://models.test", **(connection or {})}, http)
    error = calls.failure(model="test-model", **request)
    assert KEY not in f"{error.message}{error.details}{error!r}"
    assert error.details["provider"] == provider
    assert error.details["model"] == "test-model"
    return error


def openai(message="no", **fields):
    return {"error": {"message": message, "type": None, "param": None, "code": None, **fields}}


def anthropic(kind, message="no"):
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def gemini(status, message="no", *details):
    return {"error": {"code": 400, "message": message, "status": status, "details": list(details)}}


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
ERRORS = [
    ("OPENAI", 400, openai("bad field"), PermanentStepError, None, "400 from POST https://models.test"),
    ("OPENAI", 400, openai("bad field"), PermanentStepError, None, ": bad field"),
    (
        "OPENAI",
        401,
        openai("Incorrect API key provided: plan****6789"),
        PermanentStepError,
        "Authentication",
        "",
        "the key of connection 'llm' was rejected. Correct its password.",
    ),
    (
        "OPENAI",
        403,
        openai("not your country"),
        PermanentStepError,
        "Authentication",
        "",
        "Check the permissions of the key (the provider says: not your country)",
    ),
    (
        "OPENAI",
        404,
        openai("nope", code="model_not_found"),
        PermanentStepError,
        "NotFound",
        "",
        "model 'test-model' does not exist at models.test, or the key of connection 'llm' may not use it.",
    ),
    ("OPENAI", 403, openai("nope", code="model_not_found"), PermanentStepError, "NotFound", ""),
    (
        "OPENAI",
        404,
        {"detail": "Not Found"},
        PermanentStepError,
        "NotFound",
        "(the provider says: Not Found)",
    ),
    (
        "OPENAI",
        429,
        openai("quota", code="insufficient_quota"),
        PermanentStepError,
        "InsufficientQuota",
        "",
        "the account of connection 'llm' has no quota left.",
    ),
    ("OPENAI", 429, openai("slow down", code="rate_limit_exceeded"), RateLimitedError, None, "429 from POST"),
    ("OPENAI", 500, {"error": "plain words"}, TransientStepError, None, "500 from POST"),
    ("OPENAI", 503, None, TransientStepError, None, "503 from POST"),
    ("OPENAI", 408, openai(), TransientStepError, None, "408 from POST"),
    ("OPENAI", 422, {"message": "wrong type"}, PermanentStepError, None, ": wrong type"),
    ("OPENAI", 302, None, PermanentStepError, None, "302 from POST"),
    (
        "ANTHROPIC",
        400,
        anthropic("invalid_request_error", "credit is too low"),
        PermanentStepError,
        None,
        ": credit is too low",
    ),
    (
        "ANTHROPIC",
        401,
        anthropic("authentication_error"),
        PermanentStepError,
        "Authentication",
        "was rejected",
    ),
    ("ANTHROPIC", 404, anthropic("not_found_error", "model: x"), PermanentStepError, "NotFound", "model: x"),
    ("ANTHROPIC", 429, anthropic("rate_limit_error"), RateLimitedError, None, ": no"),
    ("ANTHROPIC", 529, anthropic("overloaded_error", "Overloaded"), TransientStepError, None, "Overloaded"),
    (
        "GEMINI",
        400,
        gemini("INVALID_ARGUMENT", "not valid", BAD_KEY),
        PermanentStepError,
        "Authentication",
        "the key of connection 'llm' was rejected.",
    ),
    ("GEMINI", 400, gemini("INVALID_ARGUMENT", "bad schema"), PermanentStepError, None, "bad schema"),
    (
        "GEMINI",
        403,
        [gemini("PERMISSION_DENIED", "in a list")],
        PermanentStepError,
        "Authentication",
        "in a list",
    ),
    ("GEMINI", 404, gemini("NOT_FOUND"), PermanentStepError, "NotFound", "test-model"),
    ("GEMINI", 429, gemini("RESOURCE_EXHAUSTED", "quota", RETRY), RateLimitedError, None, "quota"),
    ("GEMINI", 503, gemini("UNAVAILABLE", "overloaded"), TransientStepError, None, "overloaded"),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[0]} {row[1]} {row[-1][:30]}")
def test_an_error_says_what_happened_and_what_to_do(row):
    provider, status, body, kind, name, *parts = row
    reply = HttpResponse(status) if body is None else json_response(body, status)
    error = failure(provider, reply)
    assert type(error) is kind
    assert error.error_name == (
        f"{'' if name[0] == 'I' else 'Model'}{name}Error"
        if name
        else ("PermanentStepError" if kind is PermanentStepError else "TransientStepError")
    )
    assert error.message.startswith(f"{status} from ")
    for part in parts:
        assert part in error.message
    assert "plan****6789" not in error.message
    assert error.details["status"] == status


@pytest.mark.parametrize(
    ("provider", "headers", "body", "seconds"),
    [
        ("OPENAI", {"retry-after": "7"}, {}, 7),
        ("OPENAI", {"retry-after": "1.5"}, {}, 1.5),
        ("OPENAI", {"retry-after": "2", "retry-after-ms": "1250"}, {}, 1.25),
        ("OPENAI", {"retry-after-ms": "9" * 400}, {}, float("inf")),
        ("OPENAI", {"retry-after-ms": "9" * 5000}, {}, float("inf")),
        ("OPENAI", {"retry-after": "Mon, 01 Jan 2029 00:00:00 +" + "9" * 20}, {}, None),
        ("ANTHROPIC", {"retry-after": "3"}, {}, 3),
        ("GEMINI", {}, gemini("RESOURCE_EXHAUSTED", "quota", {"other": 1}, RETRY), 34.5),
        ("GEMINI", {"retry-after": "5"}, gemini("RESOURCE_EXHAUSTED", "quota", RETRY), 5),
        ("GEMINI", {}, gemini("RESOURCE_EXHAUSTED"), None),
    ],
)
def test_a_rate_limited_error_has_the_seconds_to_wait(provider, headers, body, seconds):
    for status in (429, 503):
        assert failure(provider, json_response(body, status, headers)).retry_after == seconds


def test_a_rate_limited_error_has_the_limits_and_the_request_id():
    headers = {
        "x-request-id": "req-7",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "20ms",
    }
    error = failure("OPENAI", json_response(openai(), 429, headers))
    assert (error.limits.requests.limit, error.limits.requests.remaining) == (60, 0)
    assert error.limits.requests.reset_seconds == pytest.approx(0.02)
    assert error.limits.tokens is None
    assert error.details["requestId"] == "req-7"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2d", 172_800),
        ("7", 7),
        ("0.25", 0.25),
        ("", None),
        ("soon", None),
        ("5x", None),
        ("1s later", None),
        ("-1s", None),
        ("9" * 50, None),
        ("٣s", None),
    ],
)
def test_a_duration_is_parsed_as_seconds(value, seconds):
    assert parse_duration(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", ["", "-1", "many", "1.5", "9" * 50, "٣"])
def test_limits_that_are_not_numbers_are_ignored(value):
    for read, name in (
        (openai_limits, "x-ratelimit-remaining-requests"),
        (anthropic_limits, "anthropic-ratelimit-requests-remaining"),
    ):
        assert read({name: value}).requests is None


def test_resets_that_are_not_dates_are_ignored():
    for reset in ("", "soon", "2026-03-03T10:00:02"):
        headers = {"anthropic-ratelimit-tokens-remaining": "1", "anthropic-ratelimit-tokens-reset": reset}
        assert anthropic_limits(headers).tokens.reset_seconds is None


FOREIGN = [
    (b"<html>Sign in to the proxy</html>", "text/html", "text/html", "it is not JSON"),
    (b"", "", "no content type", "it is not JSON"),
    (b'{"hello": 1}', "application/json", "application/json", ""),
    (b"[]", "application/json", "application/json", ""),
    (b'{"choices": [], "content": 1, "candidates": 1}', "application/json", "", ""),
]


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI"])
@pytest.mark.parametrize(("body", "content_type", "shown", "reason"), FOREIGN)
def test_an_answer_of_something_else_names_host_and_content_type(provider, body, content_type, shown, reason):
    headers = {"content-type": content_type} if content_type else {}
    error = failure(provider, HttpResponse(200, headers, body))
    assert type(error) is PermanentStepError
    assert error.message.startswith(f"models.test answered with {shown}")
    assert f"not an answer of {provider}: {reason}" in error.message
    assert "Check the host of connection 'llm'" in error.message


@pytest.mark.parametrize(("code", "kind"), [(429, RateLimitedError), (502, TransientStepError)])
def test_an_error_that_a_gateway_reports_with_status_200_counts_by_its_code(code, kind):
    error = failure("OPENAI", json_response({"error": {"code": code, "message": "from behind"}}))
    assert type(error) is kind
    assert error.message.endswith("from behind")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 302])
@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI"])
def test_a_server_that_echoes_the_request_does_not_get_the_key_into_a_message(provider, status):
    def echo(request):
        page = json.dumps({"error": {"message": f"{dict(request.headers)} " * 20}, "more": " " * 500 + KEY})
        return HttpResponse(status, {"content-type": KEY, "location": f"/?key={KEY}"}, page.encode())

    error = failure(provider, echo)
    assert KEY[:12] not in error.message


def test_an_error_of_the_http_client_is_raised_and_recorded():
    http = FakeHttpClient().route("POST", "http*", TransientStepError("cut short"))
    calls = ModelCalls("OPENAI", http=http)
    assert calls.failure().message == "cut short"
    assert "POST https://api.openai.com" in calls.calls.lines()[0]


def test_a_wrong_setting_of_the_step_is_an_error():
    calls = ModelCalls("OPENAI")
    assert "timeoutMs must be a number" in calls.failure(config={"timeoutMs": "soon"}).message
    assert "maxTokensField must be" in calls.failure(config={"maxTokensField": "tokens"}).message


@pytest.mark.parametrize(
    "model", ["../../x", "models/../x", "a?key=b", "a:deleteAll", "a b", "", "/a", "a//b", "x" * 1_001]
)
def test_a_model_of_gemini_cannot_lead_to_another_method(model):
    calls = ModelCalls("GEMINI")
    assert "is not the name of a model of GEMINI" in calls.failure(model=model).message
    assert not calls.http.requests


def test_the_reset_of_a_limit_is_read_although_the_date_of_the_response_is_not():
    headers = {
        "anthropic-ratelimit-requests-remaining": "1",
        "anthropic-ratelimit-requests-reset": "2020-01-01T00:00:00Z",
        "date": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
    }
    assert anthropic_limits(headers).requests.reset_seconds == 0
