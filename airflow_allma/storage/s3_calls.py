"""Calls of the S3 API: on the right client, with retries, raising this package's errors only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.exceptions import AllmaError, StorageConfigurationError
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.object_store import ObjectInfo
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3_errors import translated

__all__ = ["S3Calls", "name_arguments"]

_T = TypeVar("_T")


class S3Calls:
    """The calls that the S3 store and its writers make. Safe to share between threads.

    Args:
        clients: makes the boto3 clients, and keeps them. Their own retries are off: ``backoff`` alone
            decides how many requests a call makes.
        backoff: how often and how fast to retry.
    """

    def __init__(self, clients: AwsClients, backoff: Backoff) -> None:
        self._clients = clients
        self.backoff = backoff

    @property
    def connection(self) -> str:
        """The name of the credentials in errors."""
        return self._clients.connection

    @property
    def description(self) -> str:
        """``S3 through <connection>``."""
        return f"S3 through {self.connection}"

    def call(self, pointer: Pointer, operation: str, **arguments: Any) -> Any:
        """Call a client's method, with retries."""
        return self.backoff.run(lambda: self.call_once(pointer, operation, **arguments))

    def call_once(self, pointer: Pointer, operation: str, **arguments: Any) -> Any:
        """Call a client's method, without retries."""
        method = getattr(self._client(pointer), operation)
        return self.translated(pointer, lambda: method(**arguments))

    def translated(self, pointer: Pointer, call: Callable[[], _T]) -> _T:
        """Return the result of ``call``, whose errors become this package's."""
        with translated(str(pointer), self.connection, versioned=pointer.version_id is not None):
            return call()

    def head(self, pointer: Pointer) -> ObjectInfo:
        """HEAD an object."""
        response = self.call(pointer, "head_object", **name_arguments(pointer))
        return _info(pointer, response, int(response["ContentLength"]))

    def put(
        self, pointer: Pointer, data: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> ObjectInfo:
        """PUT an object."""
        response = self.call(
            pointer,
            "put_object",
            Body=data,
            ContentType=content_type,
            Metadata=dict(metadata),
            **name_arguments(pointer),
        )
        info = _info(pointer, response, len(data))
        return replace(info, content_type=content_type, metadata=dict(metadata))

    def _client(self, pointer: Pointer) -> Any:
        if pointer.is_file:
            raise StorageConfigurationError(
                f"{pointer} is a local file, which {self.description} cannot reach. Local files can only be "
                "reached below the file:/// folder that the settings name."
            )
        try:
            return self._clients.client("s3", pointer.region, retries=False)
        except AllmaError:
            raise
        except Exception as error:
            raise StorageConfigurationError(
                f"{pointer}: an S3 client cannot be made with {self.connection}: {error}"
            ) from error


def name_arguments(pointer: Pointer) -> dict[str, Any]:
    """Return the arguments of boto3 that name an object, or one version of it."""
    arguments: dict[str, Any] = {"Bucket": pointer.bucket, "Key": pointer.key}
    if pointer.version_id is not None:
        arguments["VersionId"] = pointer.version_id
    return arguments


def _info(pointer: Pointer, response: Mapping[str, Any], size: int) -> ObjectInfo:
    version = response.get("VersionId") or pointer.version_id
    return ObjectInfo(
        pointer=replace(pointer, version_id=version),
        size=size,
        etag=response["ETag"],
        content_type=response.get("ContentType"),
        content_encoding=response.get("ContentEncoding") or None,
        last_modified=response.get("LastModified"),
        metadata=dict(response.get("Metadata") or {}),
    )
