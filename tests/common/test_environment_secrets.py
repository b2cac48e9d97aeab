"""Connections and Variables of the environment, as Airflow itself reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.environment_secrets import EnvironmentSecrets
from airflow_allma.exceptions import SecretError, SecretNotFoundError

URIS = [
    "http://",
    "https://api.shop.example",
    "http://user:p%40ss%2Fword@api.shop.example:8080/https?timeout=5&verify=false",
    "http://https%3A%2F%2Fapi.shop.example%2Fv2",
    "http://https://api.shop.example:444/x",
    "http://:only-a-password@Host.Example",
    "my-type://login@host/sch%2Fema",
    "postgresql://a:b@c/d",
    "http://h/?__extra__=%7B%22headers%22%3A+%7B%22X-Key%22%3A+%22k%22%7D%7D",
    "http://h/?headers=",
    "smtp://h:25",
]


def of_airflow(conn_id, value):
    from airflow.sdk import Connection

    if value.startswith("{"):
        return Connection.from_json(value, conn_id)
    return Connection.from_uri(value, conn_id)


def fields(connection):
    extra = connection.extra
    if not isinstance(extra, dict):
        extra = json.loads(extra) if extra else {}
    text = tuple(getattr(connection, name) or "" for name in ("host", "login", "password", "schema"))
    kind = getattr(connection, "kind", None) or getattr(connection, "conn_type", None) or ""
    return (kind, *text, connection.port, dict(extra))


def read(value, conn_id="shop"):
    return EnvironmentSecrets({f"AIRFLOW_CONN_{conn_id.upper()}": value}).connection(conn_id)


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_means_what_it_means_in_airflow(uri):
    assert fields(read(uri)) == fields(of_airflow("shop", uri))


@given(
    st.fixed_dictionaries(
        {
            "conn_type": st.just("http"),
            "host": st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,4})?", fullmatch=True),
            "login": st.text(max_size=8),
            "password": st.text(max_size=12),
            "port": st.one_of(st.none(), st.integers(1, 65535)),
            "schema": st.text(max_size=6),
            "extra": st.dictionaries(
                st.text(max_size=4), st.one_of(st.text(max_size=4), st.integers(0, 9)), max_size=2
            ),
        }
    )
)
def test_a_connection_in_either_form_of_airflow_is_read_as_airflow_does(connection):
    from airflow.sdk import Connection

    as_json = json.dumps(connection)
    assert fields(read(as_json)) == fields(of_airflow("shop", as_json))
    uri = Connection.from_json(as_json, "shop").get_uri()
    assert fields(read(uri)) == fields(of_airflow("shop", uri))


@pytest.mark.parametrize(
    "value",
    [
        "planted-secret",
        "://planted-secret",
        "http://a:planted-secret@b:port",
        "http://a@x://planted-secret",
        "http://[planted-secret",
        '{"password": "planted-secret"',
        '{"password": "planted-secret", "port": "x"}',
        '{"password": ["planted-secret"]}',
        '{"password": "planted-secret", "extra": "[planted-secret"}',
        "http://h/?__extra__=planted-secret",
    ],
)
def test_what_is_not_a_connection_is_an_error_that_shows_nothing_of_it(value):
    with pytest.raises(SecretError, match=r"SHOP|'shop'") as caught:
        read(value)
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "planted" not in repr(caught.value.__context__) or caught.value.__suppress_context__


def test_an_unknown_connection_or_variable_names_the_setting_that_would_define_it():
    secrets = EnvironmentSecrets({"AIRFLOW_VAR_REGION": "eu", "AIRFLOW_VAR_EMPTY": ""})
    with pytest.raises(SecretNotFoundError, match=r"'shop_api' does not exist.*AIRFLOW_CONN_SHOP_API.*Admin"):
        secrets.connection("shop_api")
    with pytest.raises(SecretNotFoundError, match=r"'zone' does not exist.*AIRFLOW_VAR_ZONE.*Admin"):
        secrets.variable("zone")
    assert secrets.variable("region") == "eu"
    assert secrets.variable("empty") == ""


def test_a_connection_does_not_show_its_secrets():
    shown = repr(read("http://planted-login:planted-password@h/?key=planted-extra"))
    assert "h" in shown
    assert "planted" not in shown
