from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.masking import MAX_SHOWN_DEPTH, looks_secret, mask_secrets, mask_url


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "X-Api-Key",
        "apiKey",
        "access_token",
        "Authorization",
        "client-secret",
        "sig",
        "PWD",
        "Set-Cookie",
        "pin",
        "userPin",
        "user_pin",
        "otp",
        "OTP",
        "smsOtp",
        "X-OTP-Code",
        "passcode",
        "bearer",
        "card[cvv]",
        "client_assertion",
        "X-Functions-Key",
        "X-Auth",
        "DD-APPLICATION-KEY",
    ],
)
def test_names_of_secrets_are_recognized_in_any_spelling(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "key",
        "monkey",
        "name",
        "page",
        "design",
        "passenger",
        "shipping",
        "spinner",
        "pinned",
        "opinion",
        "optional",
        "authType",
        "",
    ],
)
def test_ordinary_names_are_not_secrets(name):
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://u:p@h/x?a=1", "https://***@h/x?a=1"),
        (
            "https://h/x?api_key=abc&b=2&Token=q#access_token=z",
            "https://h/x?api_key=***&b=2&Token=***#access_token=***",
        ),
        ("https://h/?key=AIza&code=c", "https://h/?key=***&code=***"),
        ("https://h/?api%5Fkey=abc", "https://h/?api%5Fkey=***"),
        ("https://h/?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/?X-Amz-Signature=***&X-Amz-Date=1"),
        ("http://[bad?token=a b", "http://[bad?token=***"),
        ("https://h/a@b?x=1", "https://h/a@b?x=1"),
        (
            "https://h/?pin=1234&otp=5678&passcode=x&bearer=y",
            "https://h/?pin=***&otp=***&passcode=***&bearer=***",
        ),
        ("https://h/?shipping=1&user.pin=2&spin=3", "https://h/?shipping=1&user.pin=***&spin=3"),
        ("https://h/?user_key=1&consumerKey=2&monkey=3", "https://h/?user_key=***&consumerKey=***&monkey=3"),
        ("token", "token"),
    ],
)
def test_urls_are_masked(url, masked):
    assert mask_url(url) == masked


@given(st.text("abc123-_.", min_size=1), st.text("abc?&;", max_size=3).filter(lambda text: "=" not in text))
def test_secrets_in_a_query_are_masked(secret, before):
    hidden = f"S{secret}S"
    assert hidden not in mask_url(f"https://u:{hidden}@h/p?a=1&{before}&token={hidden}&b=2")


def test_secrets_are_masked_at_any_depth_in_a_copy():
    value = {"a": [{"apiKey": "x", "n": None}], "password": {"deep": 1}, "token": None}
    assert mask_secrets(value) == {"a": [{"apiKey": "***", "n": None}], "password": "***", "token": None}
    assert value["a"][0]["apiKey"] == "x"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"password": "x", "id": 7}', '{"password":"***","id":7}'),
        ('[{"user": {"apiKey": ["x"]}}]', '[{"user":{"apiKey":"***"}}]'),
        ('{"Message": "{\\"token\\": \\"x\\"}"}', '{"Message":"{\\"token\\":\\"***\\"}"}'),
        # What has no secrets, or is no JSON document, stays as it is.
        ('{"id" : 1.50,\n "password": null}', '{"id" : 1.50,\n "password": null}'),
        # The beginning of one.
        ('{"id":  7, "password": "x", "n', '{"id":  7, "password": "***", "n'),
        ("[info] password", "[info] password"),
        ('"password"', '"password"'),
        ('{"password": "\ud800"}', '{"password": "***"}'),
        ("[" * 20_000, "[" * 20_000),
        ('{"n": 1' + "0" * 400 + ', "password": 1}', None),
    ],
)
def test_secrets_in_strings_that_are_json_documents_are_masked(text, masked):
    shown = mask_secrets({"body": [text]})["body"][0]
    if masked is None:
        assert '"password": 1' not in shown
    else:
        assert shown == masked


def test_strings_are_looked_into_up_to_a_size_and_one_level_of_strings():
    note = "y" * (64 << 10)
    large = json.dumps({"password": "x", "note": note, "token": "x"})
    assert mask_secrets(large) == json.dumps({"password": "***", "note": note, "token": "x"})
    inner = '{"password":"x"}'
    for _ in range(3):
        inner = json.dumps({"body": inner})
    assert mask_secrets(inner) == inner


@pytest.mark.parametrize("opening", ["object", "list"])
def test_a_value_of_any_depth_is_masked_and_what_is_too_deep_is_cut(opening):
    def wrap(value):
        return {"a": value} if opening == "object" else [value]

    value, cut = wrap({}), "..."
    for _ in range(5_000):
        value = wrap(value)
    for _ in range(MAX_SHOWN_DEPTH):
        cut = wrap(cut)
    assert mask_secrets(value) == cut
