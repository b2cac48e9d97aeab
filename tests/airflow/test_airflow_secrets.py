"""Airflow's connections and Variables through the task SDK, and flows that use them in Dags."""

from __future__ import annotations

import json
import types

import pytest

from airflow_allma.exceptions import SecretError, SecretNotFoundError, SecretUnavailableError
from airflow_allma.operators.airflow_secrets import AirflowSecrets
from airflow_allma.operators.api_retries import retry_unanswered_requests
from tests.airflow.flows import branch, fork
from tests.support import planted_secrets as planted
from tests.support.echo_server import open_echo_server

pytestmark = pytest.mark.airflow


@pytest.fixture
def supervisor(airflow_db, monkeypatch):
    """Return a function that sets what the supervisor of this task answers, or raises, for each message."""
    from airflow.sdk.execution_time import task_runner

    def answer(reply):
        def send(message):
            result = reply(message)
            if isinstance(result, Exception):
                raise result
            return result

        channel = types.SimpleNamespace(send=send)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", channel, raising=False)
        retry_unanswered_requests()

    # The retries of unanswered requests end at once.
    monkeypatch.setattr("airflow_allma.operators.api_retries.RETRY_SECONDS", 0.0)
    return answer


def error_response(kind, **detail):
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    return ErrorResponse(error=ErrorType[kind], detail=detail)


def raised(kind, **detail):
    from airflow.sdk.exceptions import AirflowRuntimeError

    return AirflowRuntimeError(error_response(kind, **detail))


LOOKUPS = [
    (lambda secrets: secrets.connection("shop"), "onnection 'shop'", "AIRFLOW_CONN_SHOP"),
    (lambda secrets: secrets.variable("shop"), "ariable 'shop'", "AIRFLOW_VAR_SHOP"),
]


@pytest.mark.parametrize(("look_up", "subject", "setting"), LOOKUPS)
@pytest.mark.parametrize("status", [500, 503])
def test_an_api_server_that_does_not_answer_is_not_a_missing_secret(
    supervisor, look_up, subject, setting, status
):
    supervisor(lambda _: raised("API_SERVER_ERROR", status_code=status))
    with pytest.raises(SecretUnavailableError, match=f"does not answer when asked for .{subject}"):
        look_up(AirflowSecrets())
    supervisor(lambda _: raised("API_SERVER_ERROR", exception_type="ConnectError"))
    with pytest.raises(SecretUnavailableError):
        look_up(AirflowSecrets())


@pytest.mark.parametrize(("look_up", "subject", "setting"), LOOKUPS)
def test_a_missing_secret_is_an_error_that_says_where_to_create_it(supervisor, look_up, subject, setting):
    kind = "CONNECTION_NOT_FOUND" if "CONN" in setting else "VARIABLE_NOT_FOUND"
    supervisor(lambda _: error_response(kind))
    with pytest.raises(
        SecretNotFoundError, match=f"{subject} does not exist.*Admin > .*{setting} in the env"
    ):
        look_up(AirflowSecrets())


@pytest.mark.parametrize(("look_up", "subject", "setting"), LOOKUPS)
def test_a_secret_that_the_task_must_not_read_is_an_error_of_its_own(supervisor, look_up, subject, setting):
    supervisor(lambda _: error_response("PERMISSION_DENIED"))
    with pytest.raises(SecretError, match=f"{subject} cannot be read: Airflow denies") as caught:
        look_up(AirflowSecrets())
    assert not isinstance(caught.value, SecretNotFoundError)


def test_the_fields_of_a_connection_are_those_that_airflow_has(airflow_db, monkeypatch):
    fields = {"conn_type": "http", "host": "h", "schema": "https", "login": "l", "password": "p", "port": 5}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps(fields | {"extra": {"a": {"b": [1]}}}))
    monkeypatch.setenv("AIRFLOW_VAR_SHOP", "value")
    found = AirflowSecrets().connection("shop")
    assert (found.kind, found.host, found.schema, found.login) == ("http", "h", "https", "l")
    assert (found.password, found.port, found.extra) == ("p", 5, {"a": {"b": [1]}})
    assert AirflowSecrets().variable("shop") == "value"


@pytest.mark.parametrize("extra", ["[1]", "{planted", '"planted"'])
def test_an_extra_that_is_not_an_object_is_an_error_that_does_not_show_it(airflow_db, monkeypatch, extra):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "http", "extra": extra}))
    with pytest.raises(SecretError, match="extra of connection 'shop' must be a JSON object") as caught:
        AirflowSecrets().connection("shop")
    assert "planted" not in str(caught.value)


def test_values_are_registered_with_airflows_masker(airflow_db):
    from airflow.sdk._shared.secrets_masker import redact

    AirflowSecrets().hide(["secret-of-this-test"])
    assert redact("a secret-of-this-test!") == "a ***!"


def test_a_dag_calls_an_api_with_a_connection_and_a_variable_in_tasks_branches_and_chunks(
    run, monkeypatch, capfd
):
    with open_echo_server() as server:
        for name, value in planted.environment(server).items():
            monkeypatch.setenv(name, value)
        steps = {
            "main": planted.call("/ok/main", "secret_bearer", to="few"),
            "few": fork(branch("one"), items="$.initialContextData.few", to="many"),
            "one": planted.call("/ok/{{currentItem}}"),
            "many": fork(branch("each"), items="$.initialContextData.many", to="tolerated"),
            "each": planted.call("/ok/{{currentItem}}", "secret_bearer"),
            "tolerated": planted.call("/fail/404/x", onError={"continueOnFailure": True}),
        }
        ran = run(steps, {"few": [1, 2], "many": [3, 4, 5, 6]}, airflow={"maxInMemoryItems": 3})
    assert ran.state == "success"
    assert sorted(path.partition("?")[0] for path, _ in server.requests) == [
        *("/fail/404/x", "/ok/1", "/ok/2", "/ok/3", "/ok/4", "/ok/5", "/ok/6", "/ok/main"),
    ]
    assert {headers["Authorization"].partition(" ")[0] for _, headers in server.requests} == {
        "Basic",
        "Bearer",
    }
    printed = capfd.readouterr()
    assert planted.hits([("XComs", json.dumps([repr(ran.xcoms)])), ("log", printed.out + printed.err)]) == []


def test_a_connection_that_does_not_exist_fails_the_task_for_good(run, monkeypatch):
    ran = run({"a": planted.call("/x", "no_such_connection")})
    assert ran.state == "failed"
    assert ran.task("a").try_number == 1
