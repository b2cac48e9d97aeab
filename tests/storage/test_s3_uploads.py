"""Uploads to S3 in parts, also those whose end is unknown."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from airflow_allma.exceptions import (
    ObjectNotFoundError,
    StorageUnavailableError,
)
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3 import S3Store
from tests.support.faulty_proxy import Call, Fault
from tests.support.moto import EndpointClients
from tests.support.s3_faults import DATA, Intercepting, answer_with, broken


def test_an_upload_that_failed_leaves_no_parts(moto_endpoint: str, good: S3Store, bucket: str):
    def plan(call: Call) -> Fault | None:
        return Fault.ERROR_500 if "partNumber=2" in call.path else None

    def write(store: S3Store) -> None:
        with store.open_writer(Pointer(bucket, "w")) as writer:
            writer.write(DATA * 8)

    with (
        broken(moto_endpoint, plan, attempts=2) as (store, _, _),
        pytest.raises(StorageUnavailableError, match="InternalError"),
    ):
        write(store)
    client = EndpointClients(moto_endpoint).client("s3")
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert list(good.list(bucket)) == []


def test_an_upload_that_cannot_be_removed_is_noted_on_the_first_error(moto_endpoint: str, bucket: str):
    def plan(call: Call) -> Fault | None:
        if call.method == "DELETE":
            return Fault.DENIED
        return Fault.ERROR_500 if "partNumber=1" in call.path else None

    with (
        broken(moto_endpoint, plan, attempts=2) as (store, _, _),
        pytest.raises(StorageUnavailableError) as caught,
        store.open_writer(Pointer(bucket, "w")) as writer,
    ):
        writer.write(DATA * 8)
    assert any("could not be removed" in note for note in caught.value.__notes__)


def lost_completion(client: Any, *, does_complete: bool) -> S3Store:
    """S3 with an upload whose completion is not answered, and which is gone when it is asked for again."""
    calls: list[object] = []

    def complete(**arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise answer_with("NoSuchUpload", 404)
        if does_complete:
            client.complete_multipart_upload(**arguments)
        raise botocore.exceptions.ConnectionClosedError(endpoint_url="http://x")

    provider = Intercepting(client, "complete_multipart_upload", complete)
    return S3Store(provider, backoff=Backoff(sleep=lambda _: None))


def write_large(store: S3Store, pointer: Pointer) -> int:
    with store.open_writer(pointer) as writer:
        writer.write(DATA * 8)
    return writer.info.size


def test_an_upload_completed_without_an_answer_is_found_complete(good: S3Store, client: Any, bucket: str):
    pointer = Pointer(bucket, "w")
    store = lost_completion(client, does_complete=True)
    assert write_large(store, pointer) == len(DATA) * 8
    assert good.read(pointer) == DATA * 8


@pytest.mark.parametrize(("parts", "is_ours"), [(3, True), (2, False)])
def test_where_etags_are_not_md5_sums_the_size_and_number_of_parts_are_compared(parts: int, is_ours: bool):
    """S3 makes such ETags with SSE-KMS and SSE-C."""
    sent: list[int] = []

    class EncryptedUpload:
        """The answers of S3 to an upload whose completion was lost."""

        def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
            return {"UploadId": "u"}

        def upload_part(self, *, Body: bytes, PartNumber: int, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's
            sent.append(len(Body))
            return {"ETag": f'"{PartNumber:032x}"'}

        def complete_multipart_upload(self, **_: Any) -> dict[str, Any]:
            raise answer_with("NoSuchUpload", 404)

        def abort_multipart_upload(self, **_: Any) -> dict[str, Any]:
            return {}

        def head_object(self, **_: Any) -> dict[str, Any]:
            return {"ETag": f'"{"f" * 32}-{parts}"', "ContentLength": sum(sent)}

    class Clients:
        connection = "a fake"

        def client(self, *_: Any, **__: Any) -> Any:
            return EncryptedUpload()

    store = S3Store(Clients(), backoff=Backoff(sleep=lambda _: None))
    if is_ours:
        assert write_large(store, Pointer("b", "k")) == len(DATA) * 8
    else:
        with pytest.raises(ObjectNotFoundError, match="NoSuchUpload"):
            write_large(store, Pointer("b", "k"))


def test_an_upload_that_vanished_is_not_taken_for_the_object_that_was_there_before(
    good: S3Store, client: Any, bucket: str
):
    pointer = Pointer(bucket, "w")
    good.write(pointer, b"before")
    store = lost_completion(client, does_complete=False)
    with pytest.raises(ObjectNotFoundError, match="NoSuchUpload"):
        write_large(store, pointer)
    assert good.read(pointer) == b"before"


@pytest.mark.parametrize("in_parts", [True, False])
def test_an_upload_that_vanished_is_not_taken_for_another_object_of_the_same_size(
    good: S3Store, client: Any, bucket: str, *, in_parts: bool
):
    pointer, other = Pointer(bucket, "w"), DATA[::-1] * 8
    if in_parts:
        with good.open_writer(pointer) as writer:
            writer.write(other)
    else:
        good.write(pointer, other)
    store = lost_completion(client, does_complete=False)
    with pytest.raises(ObjectNotFoundError, match="NoSuchUpload"):
        write_large(store, pointer)
    assert good.read(pointer) == other
