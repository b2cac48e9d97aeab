from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.failure_kinds import MAX_MESSAGE_LENGTH, fold, kind_of, short_message

FOLDED = {
    "404 from GET https://api.test/users/anna": "… from GET https://api.test/users/…",
    "No response from https://api.test:8443/v2/a/b?x=1#y": "No response from https://api.test:…/…",
    "No response from https://me:pw@api.test/": "No response from https://api.test/",
    "Object s3://bucket/in/2026-01-01.json is missing": "Object s3://bucket/in/… is missing",
    "Item u-00017 has no price": "Item … has no price",
    "Order 17 of 4,711 costs -3.50": "Order … of … costs …",
    "Job 0b1d5c5e-9d0a-4a6c-8a83-0f5ae1b2f0aa failed": "Job … failed",
    "Commit deadbeefcafe is unknown": "Commit … is unknown",
    "Late since 2026-11-26T14:20:23.123+01:00": "Late since …",
    "User 'anna o\\'hara' isn't known": "User … isn't known",
    'Field "price" is missing': "Field … is missing",
    "Step fetch: the output isn't what it's worth": "Step fetch: the output isn't what it's worth",
    "Bytes of utf-8 in S3": "Bytes of utf-8 in S3",
    "Two\nlines\t of  text": "Two lines of text",
    "A\x1b[31m red": "A\\x1b[… red",
    "": "",
}


@pytest.mark.parametrize("message", FOLDED)
def test_variable_parts_of_a_message_are_folded(message):
    assert fold(message) == FOLDED[message]


def test_the_status_of_a_response_stays_readable():
    assert fold("404 from GET https://api.test/404/405", 404) == "404 from GET https://api.test/…"


def error(message: object = "m", step: object = "s", status: object = None, name: object = "E") -> dict:
    return {
        "errorName": name,
        "errorMessage": message,
        "errorDetails": {"failedStepInstanceId": step, "status": status},
        "isRetryable": False,
    }


def test_kinds_differ_by_name_step_status_and_folded_message():
    same = {kind_of(error(f"Item {number} of https://o.test/{number} failed")) for number in range(50)}
    assert len(same) == 1
    [kind] = same
    assert (kind.error_name, kind.step, kind.status) == ("E", "s", None)
    assert len(kind.id) == 12
    assert set(kind.id) <= set(string.hexdigits.lower())
    others = [error(name="F"), error(step="t"), error(status=404), error(status=500), error("n"), error()]
    assert len({kind_of(other).id for other in others}) == len(others)


@pytest.mark.parametrize("broken", [{}, {"errorDetails": [1]}, error(7, 8, "9", None), error(status=True)])
def test_an_error_of_another_form_has_a_kind_too(broken):
    kind = kind_of(broken)
    assert (kind.step, kind.status) in {("", None), ("s", None)}


@given(st.text(max_size=3000), st.one_of(st.none(), st.integers(100, 599)))
def test_what_is_folded_is_bounded_and_printable(text, status):
    for shown in (fold(text, status), short_message({"errorMessage": text})):
        assert len(shown) <= MAX_MESSAGE_LENGTH
        assert not {"\n", "\r", "\t", "\x1b", "\0"} & set(shown)
        shown.encode()


@given(
    st.text(alphabet=string.ascii_letters + " .:", max_size=60),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_messages_that_differ_in_a_number_are_of_one_kind(text, one, other):
    assert fold(f"{text} {one} {text}") == fold(f"{text} {other} {text}")


@given(st.uuids(), st.uuids(), st.datetimes(), st.datetimes())
def test_messages_that_differ_in_an_id_and_a_time_are_of_one_kind(one, other, then, now):
    first = f"Job {one} ended at {then.isoformat()}"
    assert fold(first) == fold(f"Job {other} ended at {now.isoformat()}") == "Job … ended at …"


@given(
    st.from_regex(
        r"[a-zA-Z0-9_.~%-]{1,30}(/[a-zA-Z0-9_.~%-]{1,30}){0,3}(\?[a-z0-9=&%]{0,30})?", fullmatch=True
    )
)
def test_paths_of_urls_do_not_make_kinds(path):
    assert fold(f"No answer from https://o.test/users/{path}") == "No answer from https://o.test/users/…"
