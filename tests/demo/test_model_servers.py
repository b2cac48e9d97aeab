from __future__ import annotations

import http.client
import json
from urllib.request import Request, urlopen

import pytest

from demo.model_servers import ANY_MODEL, Behaviour, Limit, models_process, running_models
from tests.support.model_servers import (
    ANTHROPIC,
    AZURE,
    CONVERSE,
    GEMINI,
    KEY,
    OPENAI,
    finish_of,
    openai_body,
    post,
    send,
    text_of,
)

STATUSES = [
    (OPENAI, 500, "server_error"),
    (OPENAI, 429, "rate_limit_exceeded"),
    (AZURE, 503, "503"),
    (ANTHROPIC, 529, "overloaded_error"),
    (ANTHROPIC, 404, "not_found_error"),
    (GEMINI, 503, "UNAVAILABLE"),
    (GEMINI, 429, "RESOURCE_EXHAUSTED"),
    (CONVERSE, 429, "ThrottlingException"),
    (CONVERSE, 403, "AccessDeniedException"),
]


@pytest.mark.parametrize(("vendor", "status", "named"), STATUSES)
def test_errors_have_the_shape_of_the_vendor_and_the_last_outcome_repeats(models, vendor, status, named):
    models.configure(fake=Behaviour(outcomes=(status, 200), echo_key=True, retry_after="7"))
    got, headers, error = post(models, vendor)
    assert (got, headers["Retry-After"]) == (status, "7")
    shown = f"{json.dumps(error)} {headers['x-amzn-ErrorType']}"
    assert named in shown
    assert ("AKID" if vendor is CONVERSE else KEY) in shown
    assert [post(models, vendor)[0] for _ in range(3)] == [200, 200, 200]


def test_a_share_of_the_requests_fails(models):
    models.configure(fake=Behaviour(error_rate=0.25, error_status=503))
    statuses = [post(models, OPENAI)[0] for _ in range(8)]
    assert statuses == [200, 200, 200, 503] * 2


BLOCKED = [
    (
        OPENAI,
        Behaviour(refusal="I will not"),
        lambda a: a["choices"][0]["message"]["refusal"] == "I will not",
    ),
    (OPENAI, Behaviour(blocked="answer"), lambda a: finish_of(OPENAI, a) == "content_filter"),
    (OPENAI, Behaviour(blocked="prompt"), lambda a: a["error"]["code"] == "content_policy_violation"),
    (AZURE, Behaviour(blocked="prompt"), lambda a: a["error"]["code"] == "content_filter"),
    (ANTHROPIC, Behaviour(refusal="I will not"), lambda a: a["stop_reason"] == "refusal"),
    (GEMINI, Behaviour(blocked="prompt"), lambda a: a["promptFeedback"]["blockReason"] == "SAFETY"),
    (GEMINI, Behaviour(blocked="answer"), lambda a: finish_of(GEMINI, a) == "SAFETY"),
    (GEMINI, Behaviour(refusal="I will not"), lambda a: finish_of(GEMINI, a) == "PROHIBITED_CONTENT"),
    (CONVERSE, Behaviour(blocked="answer"), lambda a: a["stopReason"] == "guardrail_intervened"),
    (CONVERSE, Behaviour(refusal="I will not"), lambda a: a["stopReason"] == "content_filtered"),
]


@pytest.mark.parametrize(("vendor", "behaviour", "is_right"), BLOCKED)
def test_models_refuse_and_vendors_block(models, vendor, behaviour, is_right):
    models.configure(fake=behaviour)
    assert is_right(post(models, vendor)[2])


WRAPPED = [
    (Behaviour(answer='{"a": 1}', wrap="fence"), '```json\n{"a": 1}\n```'),
    (Behaviour(answer='{"a": 12}', wrap="cut"), '{"a": '),
    (Behaviour(echo=True), "Order: a late parcel"),
    (Behaviour(keywords={"order": "first", "LATE": "second"}, keywords_after="Order:"), "second"),
    (Behaviour(keywords={"refund": "no"}, answer="none of them"), "none of them"),
    (Behaviour(answer=""), ""),
]


@pytest.mark.parametrize(("behaviour", "expected"), WRAPPED)
def test_the_text_follows_the_behaviour(models, behaviour, expected):
    models.configure(fake=behaviour)
    assert text_of(OPENAI, post(models, OPENAI, openai_body("Order: a late parcel"))[2]) == expected


@pytest.mark.parametrize("fault", ["html", "empty", "garbage"])
def test_a_fault_is_not_an_answer(models, fault):
    models.configure(fake=Behaviour(outcomes=(fault,)))
    request = Request(models.url + OPENAI[0], json.dumps(openai_body()).encode(), OPENAI[1])
    with urlopen(request, timeout=10) as response:
        assert response.status == 200
        assert response.read()[:1] in {b"<", b"", b"["}


@pytest.mark.parametrize(
    ("fault", "error"), [("cut", http.client.IncompleteRead), ("reset", http.client.RemoteDisconnected)]
)
def test_a_connection_ends_before_the_answer_does(models, fault, error):
    models.configure(fake=Behaviour(outcomes=(fault, 200)))
    with pytest.raises(error):
        post(models, OPENAI)
    assert post(models, OPENAI)[0] == 200


def test_a_request_that_hangs_ends_with_the_server():
    with running_models({"fake": Behaviour(outcomes=("hang",))}) as server:
        request = Request(server.url + OPENAI[0], json.dumps(openai_body()).encode(), OPENAI[1])
        with pytest.raises(TimeoutError):
            urlopen(request, timeout=0.2)


LIMIT_HEADERS = [
    (OPENAI, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    (ANTHROPIC, "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
]


@pytest.mark.parametrize(("vendor", "limit", "remaining"), LIMIT_HEADERS, ids=("openai", "anthropic"))
@pytest.mark.parametrize("window", [False, True], ids=["bucket", "window"])
def test_requests_beyond_the_limit_are_refused_with_the_time_to_wait(
    models, vendor, limit, remaining, window
):
    models.configure(fake=Behaviour(limit=Limit(requests=2, seconds=600, window=window, headers=True)))
    answers = [post(models, vendor) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert [headers[remaining] for _, headers, _ in answers] == ["1", "0", "0"]
    assert {headers[limit] for _, headers, _ in answers} == {"2"}
    assert (
        (590 < int(answers[2][1]["Retry-After"]) <= 600)
        if window
        else int(answers[2][1]["Retry-After"]) <= 300
    )
    assert answers[0][1]["Retry-After"] is None


def test_tokens_are_limited_too_and_gemini_says_when_in_the_body(models):
    models.configure(fake=Behaviour(limit=Limit(tokens=3, seconds=600, retry_after=False)))
    assert post(models, GEMINI)[0] == 200  # two words
    status, headers, error = post(models, GEMINI)
    assert (status, headers["Retry-After"]) == (429, None)
    assert error["error"]["details"][0]["@type"].endswith("RetryInfo")


def test_models_without_a_behaviour_do_not_exist_unless_there_is_one_for_all(models):
    assert post(models, OPENAI, openai_body(model="other"))[0] == 200
    with running_models({"fake": Behaviour()}) as server:
        assert post(server, OPENAI)[0] == 200
        status, _, error = post(server, OPENAI, openai_body(model="other"))
        assert (status, error["error"]["code"]) == (404, "model_not_found")


def test_requests_are_logged_with_key_status_and_model(models):
    post(models, OPENAI, openai_body("Hello"))
    post(models, ANTHROPIC, headers={})
    first, second = models.requests
    assert first.body == openai_body("Hello")
    assert (first.headers["authorization"], first.model, first.status) == (f"Bearer {KEY}", "fake", 200)
    assert (second.model, second.status) == ("", 401)
    assert models.stats["statuses"] == {"200": 1, "401": 1}
    models.clear()
    assert (models.requests, models.stats["calls"]) == ([], 0)


def test_a_process_of_its_own_is_configured_and_read_over_http(tmp_path):
    with models_process(tmp_path, {ANY_MODEL: Behaviour(answer="first")}, keep=10) as server:
        assert text_of(OPENAI, post(server, OPENAI)[2]) == "first"
        changed = json.dumps({"fake": {"answer": "second", "limit": {"requests": 1}}}).encode()
        assert send(Request(f"{server.url}/behaviour", changed, method="PUT"))[0] == 200
        assert text_of(OPENAI, post(server, OPENAI)[2]) == "second"
        unknown = json.dumps({"fake": {"speed": 1}}).encode()
        assert send(Request(f"{server.url}/behaviour", unknown, method="PUT"))[0] == 400
        _, _, requests = send(Request(f"{server.url}/requests"))
        assert [request["body"] for request in requests] == [openai_body(), openai_body()]
        assert send(Request(f"{server.url}/stats"))[2]["calls"] == 2
