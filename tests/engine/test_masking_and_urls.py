from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.masking import looks_secret, mask_secrets, mask_url
from airflow_allma.engine.urls import prepare_url
from airflow_allma.exceptions import PermanentStepError


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
    ("rendered", "sent"),
    [
        ("https://api.test", "https://api.test/"),
        ("HTTPS://api.test:8443/a?b=c#frag", "https://api.test:8443/a?b=c"),
        ("https://api.test?x=1", "https://api.test/?x=1"),
        ("  https://api.test/a ", "https://api.test/a"),
        ("https://api.test/a b/é?q=ü x", "https://api.test/a%20b/%C3%A9?q=%C3%BC%20x"),
        ("https://api.test/a%20b%2Fc?q=a%2Bb+c", "https://api.test/a%20b%2Fc?q=a%2Bb+c"),
        ("https://api.test/100%?q=5%zz", "https://api.test/100%25?q=5%25zz"),
        ("https://api.test/a\\b", "https://api.test/a%5Cb"),
        ("https://bücher.test/x", "https://xn--bcher-kva.test/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://u:p@h/x", "http://u:p@h/x"),
        ("http://h/a;b,c:d@e!$&'()*+=~", "http://h/a;b,c:d@e!$&'()*+=~"),
        ("http://h/a/./b/...", "http://h/a/./b/..."),
    ],
)
def test_a_rendered_url_is_encoded_once(rendered, sent):
    assert prepare_url(rendered, "{{url}}") == sent
    assert prepare_url(sent, "{{url}}") == sent


@pytest.mark.parametrize(
    ("rendered", "template", "message"),
    [
        ("", "{{u}}", "must begin with http"),
        ("/relative", "{{u}}", "must begin with http"),
        ("ftp://h/x", "{{u}}", "must begin with http"),
        ("file:///etc/passwd", "{{u}}", "must begin with http"),
        ("https:///x", "https://{{h}}/x", "does not have a valid host"),
        ("https://h h/x", "https://{{h}}/x", "does not have a valid host"),
        ("https://a\\@b/x", "https://{{h}}/x", "does not have a valid host"),
        ("https://h:x/", "https://h:{{p}}/", "does not have a valid host"),
        ("https://h:70000/", "https://h:{{p}}/", "port above 65535"),
        ("https://h/a\r\nX: y", "https://h/{{v}}", "control characters"),
        ("https://h/a\n", "https://h/{{v}}", "control characters"),
        ("https://api.test@evil.test/", "https://api.test{{path}}", "user info from a value"),
        ("https://h/users/../admin", "https://h/users/{{id}}", "'..' segment"),
        ("https://h/users/%2e%2E/admin", "https://h/users/{{id}}", "'..' segment"),
        ("https://h/users/..", "https://h/users/{{id}}", "'..' segment"),
        ("https://h/\ud800", "https://h/{{v}}", "cannot be encoded"),
    ],
)
def test_an_invalid_url_is_rejected_with_the_reason(rendered, template, message):
    with pytest.raises(PermanentStepError, match=message):
        prepare_url(rendered, template)


def test_a_template_may_contain_what_values_may_not():
    assert prepare_url("https://h/a/../b", "https://h/a/../{{v}}") == "https://h/a/../b"
    assert prepare_url("https://u:1@h/", "https://u:{{v}}@h/") == "https://u:1@h/"
    assert prepare_url("https://u:1@h/", "{{base}}/") == "https://u:1@h/"
    assert prepare_url("https://h/x?q=../y", "https://h/x?q={{v}}") == "https://h/x?q=../y"


def test_the_error_shows_the_url_without_its_secrets():
    with pytest.raises(PermanentStepError) as caught:
        prepare_url("https://u:hidden@h/x?token=hidden\n", "{{u}}")
    assert "hidden" not in str(caught.value.as_dict())
    assert "https://***@h/x?token=***" in caught.value.message


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_any_string_in_a_path_becomes_ascii_without_white_space(text):
    path = text.replace("..", "")
    url = prepare_url(f"https://h/{path}x", "https://h/{{v}}x")
    assert url.isascii()
    assert not any(character.isspace() for character in url)
    assert url.startswith("https://h/")
