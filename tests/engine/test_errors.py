from __future__ import annotations

import botocore.exceptions as boto
import pytest

from airflow_allma import exceptions
from airflow_allma.common.aws_clients import AwsClients, EnvironmentAws
from airflow_allma.common.aws_errors import TRANSIENT_AWS_CODES
from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import PermanentStepError, StorageConfigurationError, TransientStepError


def answer(code="", status=400, message="what it said"):
    return boto.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Query"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.StorageUnavailableError("busy"), TransientStepError),
        (exceptions.ObjectNotFoundError("gone"), PermanentStepError),
        (exceptions.ObjectAccessDeniedError("no"), PermanentStepError),
        (exceptions.ObjectChangedError("changed"), PermanentStepError),
        (exceptions.ObjectDecodeError("not JSON"), PermanentStepError),
        (exceptions.StorageConfigurationError("no"), PermanentStepError),
        (exceptions.ExpressionEvaluationError("null"), PermanentStepError),
        (answer("SlowDown", 503), TransientStepError),
        (answer("Unheard", 500), TransientStepError),
        (answer("Unheard", 429), TransientStepError),
        (answer("ValidationException"), PermanentStepError),
        (answer("", 404), PermanentStepError),
        (boto.EndpointConnectionError(endpoint_url="http://h"), TransientStepError),
        (boto.ReadTimeoutError(endpoint_url="http://h"), TransientStepError),
        (boto.ConnectionClosedError(endpoint_url="http://h"), TransientStepError),
        (boto.NoCredentialsError(), PermanentStepError),
        (boto.ParamValidationError(report="Key"), PermanentStepError),
        (ZeroDivisionError("division by zero"), PermanentStepError),
    ],
)
def test_each_error_becomes_the_step_error_that_says_whether_it_passes(error, kind):
    made = step_error_from(error, details={"given": 1})
    assert type(made) is kind
    assert made.details["given"] == 1


@pytest.mark.parametrize("code", sorted(TRANSIENT_AWS_CODES))
def test_throttling_and_outages_of_aws_pass(code):
    assert isinstance(step_error_from(answer(code)), TransientStepError)


def test_a_step_error_stays_itself():
    error = exceptions.ContentBasedRetryableError("x")
    assert step_error_from(error, doing="something", details={"a": 1}) is error


def test_the_message_says_what_was_done_with_which_credentials_and_what_came_of_it():
    made = step_error_from(
        answer("ResourceNotFoundException"), doing="Reading 't'", connection="connection 'c'"
    )
    assert made.message == (
        "Reading 't' failed: ResourceNotFoundException: what it said. Check the name, and the region and "
        "account of the credentials. (through connection 'c')"
    )
    assert made.details == {"awsErrorCode": "ResourceNotFoundException", "awsStatus": 400}


def test_an_unexpected_error_keeps_its_kind_in_the_message():
    assert step_error_from(KeyError("x")).message == "KeyError: 'x'"


@pytest.fixture
def aws_environment(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return monkeypatch


def test_clients_of_the_environment_are_made_once_a_service_and_region(aws_environment):
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    clients = EnvironmentAws()
    assert isinstance(clients, AwsClients)
    first = clients.client("dynamodb")
    assert clients.client("dynamodb") is first
    assert first.meta.region_name == "eu-west-3"
    assert clients.client("dynamodb", "us-west-2").meta.region_name == "us-west-2"


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_DEFAULT_REGION", None), ("AWS_PROFILE", "no-such-profile")]
)
def test_an_environment_without_region_or_profile_says_what_to_set(aws_environment, name, value):
    if value:
        aws_environment.setenv(name, value)
    with pytest.raises(
        StorageConfigurationError, match=r"Set AWS_DEFAULT_REGION and credentials, or AWS_PROFILE"
    ):
        EnvironmentAws().client("dynamodb")
