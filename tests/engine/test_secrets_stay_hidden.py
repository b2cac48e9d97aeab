"""Ways in which a flow, a server or a helper could make a secret visible."""

from __future__ import annotations

import asyncio
import base64

import pytest

from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import TransientStepError
from tests.engine.test_api_call_secrets import Ran, api_call
from tests.support.secrets import SecretsInMemory

KEY = {"X-Key": "{{conn.shop.password}}"}
WHOLE = (
    "{{json conn}}",
    "{{json this}}",
    "{{json @root}}",
    "{{#each conn}}{{#each this}}{{this}}{{/each}}{{/each}}",
    "{{lookup conn.shop 'password'}}",
)


@pytest.mark.parametrize("template", WHOLE)
def test_a_url_that_names_no_secret_does_not_see_those_of_headers(template):
    ran = Ran(api_call("https://o.test/x?" + template, headers=KEY))
    assert ran.request.headers["X-Key"] == "planted-password"
    assert "planted" not in ran.request.url
    assert "planted" not in ran.shown()


@pytest.mark.parametrize("template", [*WHOLE, "$.conn['shop']['password']"])
def test_a_header_that_names_no_secret_does_not_see_those_of_others(template):
    ran = Ran(api_call("https://o.test/?k={{var.token}}", headers={**KEY, "X-Other": template}))
    assert ran.request.url == "https://o.test/?k=planted-variable"
    assert ran.request.headers["X-Key"] == "planted-password"
    assert "planted" not in ran.request.headers.get("X-Other", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("before", [0, 480, 485, 490, 499])
def test_an_error_page_of_another_encoding_shows_no_part_of_a_secret(encoding, before):
    page = ("." * before + "planted-password").encode(encoding)
    ran = Ran(api_call("https://o.test/", headers=KEY), HttpResponse(400, {}, page))
    body = ran.error["errorDetails"]["body"]
    assert set(body) <= {".", "*", "\ufffd"}


@pytest.mark.parametrize("character", ["\0", "\x08", "\u200b", "\u00ad"])
def test_characters_that_are_not_shown_hide_no_secret_in_an_error_page(character):
    page = ("." * 484 + character.join("planted-password")).encode()
    ran = Ran(api_call("https://o.test/", headers=KEY), HttpResponse(400, {}, page))
    assert set(ran.error["errorDetails"]["body"]) <= {".", "*"}


def test_what_a_helper_makes_of_a_secret_in_a_url_is_masked_in_errors():
    made = base64.b64encode(base64.b64encode(b"planted-password")).decode()
    lost = TransientStepError(f"No response from GET https://o.test/{made}.")
    ran = Ran(api_call("https://o.test/{{base64 (base64 conn.shop.password)}}"), lost)
    assert ran.request.url == f"https://o.test/{made}"
    assert ran.error["errorMessage"] == "No response from GET https://o.test/***."


def test_the_login_of_an_smtp_server_is_masked_as_it_is_sent():
    secrets = Secrets(SecretsInMemory([{"id": "post", "login": "desk", "password": "planted-password"}], {}))
    asyncio.run(secrets.connection("post"))
    sent = base64.b64encode(b"\0desk\0planted-password").decode()
    assert secrets.masks.text(f"500 AUTH PLAIN {sent}") == "500 AUTH PLAIN ***"
