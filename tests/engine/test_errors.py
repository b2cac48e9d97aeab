from __future__ import annotations

import botocore.exceptions as boto
import pytest

from airflow_allma import exceptions
from airflow_allma.common.aws_clients import AwsClients, EnvironmentAws
from airflow_allma.common.aws_errors import TRANSIENT_AWS_CODES
from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import PermanentStepError, StorageConfigurationError, TransientStepError


def answer(code="", status=400, message="the reason"):
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
def test_each_error_becomes_a_transient_or_a_permanent_step_error(error, kind):
    result = step_error_from(error, details={"key": 1})
    assert type(result) is kind
    assert result.details["key"] == 1


@pytest.mark.parametrize("code", sorted(TRANSIENT_AWS_CODES))
def test_throttling_and_outages_of_aws_are_transient(code):
    assert isinstance(step_error_from(answer(code)), TransientStepError)


def test_a_step_error_is_returned_unchanged():
    error = exceptions.ContentBasedRetryableError("x")
    assert step_error_from(error, doing="something", details={"a": 1}) is error


def test_the_message_names_the_action_the_error_and_the_credentials():
    result = step_error_from(
        answer("ResourceNotFoundException"), doing="Reading 't'", connection="connection 'c'"
    )
    assert result.message == (
        "Reading 't' failed: ResourceNotFoundException: the reason. Check the name, and the region and "
        "account of the credentials. (through connection 'c')"
    )
    assert result.details == {"awsErrorCode": "ResourceNotFoundException", "awsStatus": 400}


def test_the_message_names_the_type_of_an_unexpected_error():
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


def test_clients_of_the_environment_are_created_once_per_service_and_region(aws_environment):
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
def test_without_a_region_or_profile_the_error_says_what_to_set(aws_environment, name, value):
    if value:
        aws_environment.setenv(name, value)
    with pytest.raises(
        StorageConfigurationError, match=r"Set AWS_DEFAULT_REGION and credentials, or AWS_PROFILE"
    ):
        EnvironmentAws().client("dynamodb")
