"""Objects in S3, over boto3 clients that somebody else makes.

Calls that fail for a while (throttling, 5xx, lost connections, bodies cut short) are tried again here; a
stream goes on where it was cut, pinned to the ETag it began with. Safe to share between threads, as boto3
clients are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.exceptions import (
    AllmaError,
    ObjectChangedError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.base import BLOCK_BYTES, ObjectInfo
from airflow_allma.storage.pointers import Pointer, check_writable
from airflow_allma.storage.read_ahead import read_ahead
from airflow_allma.storage.s3_errors import RangeOutsideObjectError, translated
from airflow_allma.storage.s3_writer import S3Writer

__all__ = ["S3Store"]

_T = TypeVar("_T")
_PAGE = 1000


class S3Store:
    """An ``ObjectStore`` over S3.

    Args:
        clients: makes the boto3 clients, and keeps them. Their own retries are off: ``backoff`` alone
            decides how many requests a call makes.
        backoff: how to try again.
    """

    def __init__(self, clients: AwsClients, *, backoff: Backoff | None = None) -> None:
        self._provider = clients
        self._backoff = backoff or Backoff()

    @property
    def description(self) -> str:
        """``S3 through <connection>``."""
        return f"S3 through {self._provider.connection}"

    def __repr__(self) -> str:
        return f"S3Store({self._provider.connection!r})"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """HEAD the object."""
        answer = self.call(pointer, "head_object", **_name(pointer))
        return _info(pointer, answer, int(answer["ContentLength"]))

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """GET a range."""
        return b"".join(self._blocks(pointer, start, end, if_match, block_bytes=None))

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """GET a range block by block; the next block is fetched while the last one is worked on."""
        blocks = self._blocks(pointer, start, end, if_match, block_bytes=block_bytes)
        if end is not None and end - start <= block_bytes:
            return blocks
        return read_ahead(blocks)

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """PUT the object."""
        check_writable(pointer)
        answer = self.call(
            pointer,
            "put_object",
            Body=data,
            ContentType=content_type,
            Metadata=dict(metadata or {}),
            **_name(pointer),
        )
        info = _info(pointer, answer, len(data))
        return replace(info, content_type=content_type, metadata=dict(metadata or {}))

    def open_writer(self, pointer: Pointer, *, content_type: str = "application/octet-stream") -> S3Writer:
        """Write by multipart upload, or by one PUT when the object stays small."""
        check_writable(pointer)
        return S3Writer(self, pointer, content_type)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List by pages of 1,000."""
        left = limit
        page: dict[str, Any] = {}
        subject = Pointer(bucket, prefix or "*")
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            answer = self.call(subject, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=size, **page)
            for found in answer.get("Contents", ()):
                yield ObjectInfo(
                    pointer=Pointer(bucket, found["Key"]),
                    size=int(found["Size"]),
                    etag=found["ETag"],
                    last_modified=found["LastModified"],
                )
            if not answer.get("IsTruncated"):
                return
            page = {"ContinuationToken": answer["NextContinuationToken"]}
            left = None if left is None else left - int(answer["KeyCount"])

    def delete(self, pointer: Pointer) -> None:
        """DELETE the object, or its one version."""
        self.call(pointer, "delete_object", **_name(pointer))

    def call(self, pointer: Pointer, operation: str, **arguments: Any) -> Any:
        """Call a client's method, with retries, raising this package's errors only."""
        return self._backoff.run(lambda: self._once(pointer, operation, **arguments))

    def _once(self, pointer: Pointer, operation: str, **arguments: Any) -> Any:
        method = getattr(self._client(pointer), operation)
        return self._translated(pointer, lambda: method(**arguments))

    def _translated(self, pointer: Pointer, call: Callable[[], _T]) -> _T:
        versioned = pointer.version_id is not None
        with translated(str(pointer), self._provider.connection, versioned=versioned):
            return call()

    def _client(self, pointer: Pointer) -> Any:
        if pointer.is_file:
            raise StorageConfigurationError(
                f"{pointer} is a local file, which {self.description} cannot reach. Local files are reached "
                "only below a file:/// folder that the settings name."
            )
        try:
            return self._provider.client("s3", pointer.region, retries=False)
        except AllmaError:
            raise
        except Exception as error:
            raise StorageConfigurationError(
                f"{pointer}: no S3 client can be made from {self._provider.connection}: {error}"
            ) from error

    def _blocks(
        self, pointer: Pointer, start: int, end: int | None, if_match: str | None, *, block_bytes: int | None
    ) -> Generator[bytes, None, None]:
        """Blocks of one GET, which is made anew from the break when it breaks."""
        if end is not None and end <= start:
            return
        position, pinned, failures = start, if_match, 0
        while True:
            try:
                answer = self._get(pointer, position, end, pinned)
                if answer is None:
                    return
                pinned = answer["ETag"]
                for block in self._body(pointer, answer, block_bytes):
                    position += len(block)
                    failures = 0
                    yield block
            except StorageUnavailableError as error:
                failures += 1
                if failures >= self._backoff.attempts:
                    raise self._backoff.exhausted(error) from error
            else:
                return
            self._backoff.pause(failures)

    def _get(self, pointer: Pointer, start: int, end: int | None, if_match: str | None) -> Any:
        """Begin a GET; None when the range begins behind the object's end."""
        arguments = _name(pointer)
        if start > 0 or end is not None:
            arguments["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if if_match is not None:
            arguments["IfMatch"] = if_match
        try:
            return self._once(pointer, "get_object", **arguments)
        except ObjectChangedError as error:
            raise self._changed(pointer, str(if_match)) from error
        except RangeOutsideObjectError:
            # An object that was replaced by a shorter one may be reported so, too.
            if if_match is not None and self.head(pointer).etag != if_match:
                raise self._changed(pointer, if_match) from None
            return None

    def _body(self, pointer: Pointer, answer: Any, block_bytes: int | None) -> Iterator[bytes]:
        body, missing = answer["Body"], int(answer["ContentLength"])
        try:
            while block := self._translated(pointer, lambda: body.read(block_bytes)):
                missing -= len(block)
                yield block
        finally:
            body.close()
        if missing:
            raise StorageUnavailableError(
                f"{pointer}: the body ended {missing} bytes early through {self._provider.connection}."
            )

    def _changed(self, pointer: Pointer, planned: str) -> StorageError:
        try:
            now = self.head(pointer).etag
        except StorageError as error:
            return ObjectChangedError(f"{pointer} has changed: ETag {planned} was planned; now: {error}")
        return ObjectChangedError(
            f"{pointer} has changed: its ETag is {now}, {planned} was planned ({self.description})."
        )


def _name(pointer: Pointer) -> dict[str, Any]:
    name: dict[str, Any] = {"Bucket": pointer.bucket, "Key": pointer.key}
    if pointer.version_id is not None:
        name["VersionId"] = pointer.version_id
    return name


def _info(pointer: Pointer, answer: Mapping[str, Any], size: int) -> ObjectInfo:
    version = answer.get("VersionId") or pointer.version_id
    return ObjectInfo(
        pointer=replace(pointer, version_id=version),
        size=size,
        etag=answer["ETag"],
        content_type=answer.get("ContentType"),
        content_encoding=answer.get("ContentEncoding") or None,
        last_modified=answer.get("LastModified"),
        metadata=dict(answer.get("Metadata") or {}),
    )
