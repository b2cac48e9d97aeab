"""Lookups of connections and Variables, and the masks of their values."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import re
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.secret_masks import MIN_SECRET_LENGTH, SecretMasks
from airflow_allma.engine.secrets import CACHE_SECONDS, Secrets
from airflow_allma.exceptions import PermanentStepError, SecretNotFoundError, SecretUnavailableError
from tests.support.secrets import SecretsInMemory

SECRET = 'p&a"s s/w<ö>rd\n\\+1=='
FORMS = {
    "itself": SECRET,
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded in lower case": re.sub("%..", lambda match: match[0].lower(), quote(SECRET, safe="")),
    "percent-encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "a segment of a path": quote(SECRET),
    "a parameter of a form": quote_plus(SECRET),
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON with all letters": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "JSON in JSON": json.dumps(json.dumps({"a": SECRET})),
    "a repr": repr(SECRET)[1:-1],
    "HTML": html.escape(SECRET),
    "Base64": base64.b64encode(SECRET.encode()).decode(),
    "Base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
}


def masks(*secrets):
    made = SecretMasks()
    made.add(secrets)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form_in_which_texts_contain_it(form):
    masked = masks(SECRET).text(f"before {FORMS[form]} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert "***" in masked
    assert "rd" not in masked.replace("before", "")
    assert FORMS[form] not in masked


def test_the_token_of_an_authorization_header_is_a_secret_without_its_scheme():
    assert masks("Bearer abc-123").text("{'token': 'abc-123'}") == "{'token': '***'}"


def test_the_longer_of_two_secrets_is_masked_first():
    assert masks("word", "word-and-more").text("word-and-more word") == "*** ***"


def test_values_that_any_text_contains_are_not_masked():
    assert masks("abc", "true", "NULL", "").text("abc true NULL") == "abc true NULL"


def test_a_json_value_is_masked_in_strings_and_keys_at_any_depth():
    value = {"a": ["planted", {"planted": 1}], "n": 5, "none": None}
    assert masks("planted").json(value) == {"a": ["***", {"***": 1}], "n": 5, "none": None}
    assert value["a"][0] == "planted"


@given(st.text("XYZ", min_size=MIN_SECRET_LENGTH), st.integers(0, 600), st.integers(0, 3000))
def test_the_beginning_of_a_text_shows_no_part_of_a_secret(secret, before, after):
    text = masks(secret).beginning(("." * before + secret + "." * after).encode(), 300)
    assert len(text) <= 300
    assert set(text) <= set(".*")


def test_a_cut_secret_is_not_shown():
    secret = "planted-" + "x" * 3000
    body = b"." * 490 + secret.encode() + b"." * 9000
    assert "planted" not in masks(secret).beginning(body, 500)


def run(coroutine):
    return asyncio.run(coroutine)


CONNECTION = {
    "id": "shop",
    "login": "planted-login",
    "password": "planted-password",
    "host": "api.shop.example",
    "extra": {
        "headers": {"X-Tenant": "planted-header", "Accept": "application/json"},
        "refresh_token": "planted-token",
        "nested": {"apiKey": ["planted-key"]},
        "region": "eu-central-1",
    },
}


def test_the_secrets_of_a_connection_are_masked_and_what_is_none_is_not():
    source = SecretsInMemory([CONNECTION])
    secrets = Secrets(source)
    run(secrets.connection("shop"))
    basic = base64.b64encode(b"planted-login:planted-password").decode()
    for secret in (
        "planted-login",
        "planted-password",
        "planted-header",
        "planted-token",
        "planted-key",
        basic,
    ):
        assert secrets.masks.text(f"<{secret}>") == "<***>"
        assert secret in source.hidden
    plain = "api.shop.example application/json eu-central-1"
    assert secrets.masks.text(plain) == plain


def test_many_steps_that_need_a_secret_look_it_up_once():
    source = SecretsInMemory(variables={"token": "planted"})
    secrets = Secrets(source)

    async def main():
        return await asyncio.gather(*(secrets.variable("token") for _ in range(50)))

    assert set(run(main())) == {"planted"}
    assert source.lookups == ["token"]


def test_a_secret_is_looked_up_again_after_a_minute():
    now = [0.0]
    source = SecretsInMemory(variables={"token": ["old-value", "new-value"]})
    secrets = Secrets(source, clock=lambda: now[0])
    assert run(secrets.variable("token")) == "old-value"
    now[0] = CACHE_SECONDS - 1
    assert run(secrets.variable("token")) == "old-value"
    now[0] = CACHE_SECONDS
    assert run(secrets.variable("token")) == "new-value"
    assert secrets.masks.text("old-value new-value") == "*** ***"
    assert CACHE_SECONDS <= 60


def test_an_error_of_a_lookup_is_not_kept():
    source = SecretsInMemory(variables={"token": [SecretUnavailableError("away"), "planted"]})
    secrets = Secrets(source)
    with pytest.raises(SecretUnavailableError):
        run(secrets.variable("token"))
    assert run(secrets.variable("token")) == "planted"


def test_a_step_that_is_cancelled_does_not_end_the_lookup_of_another():
    source = SecretsInMemory(variables={"token": "planted"})
    secrets = Secrets(source)

    async def main():
        first = asyncio.create_task(secrets.variable("token"))
        second = asyncio.create_task(secrets.variable("token"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert run(main()) == "planted"


def test_a_lookup_that_a_closed_event_loop_left_behind_is_made_again():
    source = SecretsInMemory(variables={"token": "planted"})
    secrets = Secrets(source)

    async def begin():
        asyncio.create_task(secrets.variable("token"))  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0)

    run(begin())
    secrets._known.clear()
    assert run(secrets.variable("token")) == "planted"


def test_a_lookup_that_hangs_does_not_keep_the_event_loop_from_ending():
    is_released, ended = threading.Event(), []

    class Hanging(SecretsInMemory):
        def variable(self, name):
            is_released.wait(30)
            ended.append(name)
            return "planted"

    async def wait_a_moment():
        async with asyncio.timeout(0.01):
            await Secrets(Hanging()).variable("token")

    try:
        with pytest.raises(TimeoutError):
            run(wait_a_moment())
        assert ended == []
    finally:
        is_released.set()


def test_without_a_source_there_are_no_secrets():
    with pytest.raises(SecretNotFoundError, match="nothing provides connections"):
        run(Secrets().connection("shop"))
    with pytest.raises(SecretNotFoundError, match="nothing provides Variables"):
        run(Secrets().variable("x"))


def test_the_secrets_in_an_error_are_masked_in_place():
    secrets = Secrets(SecretsInMemory(variables={"token": "planted"}))
    run(secrets.variable("token"))
    error = PermanentStepError("got planted", details={"body": "planted", "n": [1, "xplantedx"]})
    assert secrets.mask_error(error) is error
    assert str(error) == error.message == "got ***"
    assert error.details == {"body": "***", "n": [1, "x***x"]}
