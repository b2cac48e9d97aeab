"""Errors of S3 and its clients, and how they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from airflow_allma.exceptions import (
    AllmaError,
    ObjectAccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3 import S3Store
from airflow_allma.storage.s3_errors import translated
from tests.support.moto import EndpointClients


class Providing:
    connection = "Airflow connection 'aws_default'"

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        return self._make()


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("Invalid endpoint: nowhere"), KeyError("aws_default"), botocore.exceptions.NoRegionError()],
)
def test_a_client_that_cannot_be_made_names_the_connection(error: Exception):
    store = S3Store(Providing(lambda: _raise(error)))
    with pytest.raises(StorageConfigurationError, match="Airflow connection 'aws_default'"):
        store.head(Pointer("b", "k"))


def test_an_error_of_this_package_passes_the_provider_unchanged():
    mine = AllmaError("mine")
    with pytest.raises(AllmaError) as caught:
        S3Store(Providing(lambda: _raise(mine))).head(Pointer("b", "k"))
    assert caught.value is mine


def test_missing_credentials_name_the_connection(monkeypatch: pytest.MonkeyPatch, tmp_path):
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = S3Store(
        Providing(lambda: boto3.Session().client("s3", "eu-west-1", endpoint_url="http://127.0.0.1:9"))
    )
    with pytest.raises(StorageConfigurationError, match=r"NoCredentialsError.*credentials") as caught:
        store.head(Pointer("b", "k"))
    assert "aws_default" in str(caught.value)


def test_an_endpoint_without_a_server_is_unavailable_and_the_connection_is_named():
    store = S3Store(EndpointClients("http://127.0.0.1:9"), backoff=Backoff(attempts=2, sleep=lambda _: None))
    with pytest.raises(StorageUnavailableError, match=r"'moto'.*endpoint"):
        store.head(Pointer("b", "k"))


def test_a_local_file_is_not_looked_for_in_s3(moto_endpoint: str):
    good = S3Store(EndpointClients(moto_endpoint))
    with pytest.raises(StorageConfigurationError, match="local file"):
        good.read(Pointer.from_uri("file:///etc/passwd"))


@pytest.mark.parametrize(
    ("code", "status", "versioned", "expected"),
    [
        ("NoSuchKey", 404, False, ObjectNotFoundError),
        ("404", 404, False, ObjectNotFoundError),
        ("MethodNotAllowed", 405, True, ObjectNotFoundError),
        ("InvalidArgument", 400, True, ObjectNotFoundError),
        ("InvalidArgument", 400, False, StorageConfigurationError),
        ("AccessDenied", 403, False, ObjectAccessDeniedError),
        ("InvalidAccessKeyId", 403, False, ObjectAccessDeniedError),
        ("ExpiredToken", 400, False, ObjectAccessDeniedError),
        ("PreconditionFailed", 412, False, ObjectChangedError),
        ("SlowDown", 503, False, StorageUnavailableError),
        ("RequestTimeout", 400, False, StorageUnavailableError),
        ("", 429, False, StorageUnavailableError),
        ("BadGateway", 502, False, StorageUnavailableError),
        ("PermanentRedirect", 301, False, StorageConfigurationError),
        ("AuthorizationHeaderMalformed", 400, True, StorageConfigurationError),
    ],
)
def test_every_answer_of_s3_has_its_error(
    code: str, status: int, versioned: bool, expected: type[StorageError]
):
    error = botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )
    with pytest.raises(expected) as caught, translated("s3://b/k", "connection 'x'", versioned=versioned):
        raise error
    assert type(caught.value) is expected
    assert all(part in str(caught.value) for part in ("s3://b/k", "connection 'x'", "said"))
