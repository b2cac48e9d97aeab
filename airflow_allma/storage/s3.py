"""Objects in S3.

Calls that fail for a while (throttling, 5xx, lost connections, bodies cut short) are retried; a stream
continues where it was cut, pinned to the ETag with which it began. Safe to share between threads, as boto3
clients are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.exceptions import ObjectChangedError, StorageError, StorageUnavailableError
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo
from airflow_allma.storage.pointer import Pointer, check_writable
from airflow_allma.storage.read_ahead import read_ahead
from airflow_allma.storage.s3_calls import S3Calls, name_arguments
from airflow_allma.storage.s3_errors import RangeOutsideObjectError
from airflow_allma.storage.s3_writer import S3Writer

__all__ = ["S3Store"]

_PAGE_SIZE: Final = 1000


class S3Store:
    """An ``ObjectStore`` over S3.

    Args:
        clients: makes the boto3 clients, and keeps them.
        backoff: how often and how fast to retry; clients do not retry by themselves.
    """

    def __init__(self, clients: AwsClients, *, backoff: Backoff | None = None) -> None:
        self._calls = S3Calls(clients, backoff or Backoff())

    @property
    def description(self) -> str:
        """``S3 through <connection>``."""
        return self._calls.description

    def __repr__(self) -> str:
        return f"S3Store({self._calls.connection!r})"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """HEAD the object."""
        return self._calls.head(pointer)

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
        """GET a range block by block; the next block is fetched while the caller works on the last one."""
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
        return self._calls.put(pointer, data, content_type=content_type, metadata=metadata or {})

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> S3Writer:
        """Write by multipart upload, or by one PUT if the object stays small."""
        check_writable(pointer)
        return S3Writer(self._calls, pointer, content_type, metadata)

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List by pages of 1,000."""
        left = limit
        page: dict[str, Any] = {}
        subject = Pointer(bucket, prefix or "*")
        while left is None or left > 0:
            size = _PAGE_SIZE if left is None else min(_PAGE_SIZE, left)
            response = self._calls.call(
                subject, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=size, **page
            )
            for entry in response.get("Contents", ()):
                yield ObjectInfo(
                    pointer=Pointer(bucket, entry["Key"]),
                    size=int(entry["Size"]),
                    etag=entry["ETag"],
                    last_modified=entry["LastModified"],
                    storage_class=entry.get("StorageClass"),
                )
            if not response.get("IsTruncated"):
                return
            page = {"ContinuationToken": response["NextContinuationToken"]}
            left = None if left is None else left - int(response["KeyCount"])

    def _blocks(
        self, pointer: Pointer, start: int, end: int | None, if_match: str | None, *, block_bytes: int | None
    ) -> Generator[bytes, None, None]:
        """Yield the blocks of one GET, which is repeated from where it was cut."""
        if end is not None and end <= start:
            return
        backoff = self._calls.backoff
        position, pinned, failures = start, if_match, 0
        while True:
            try:
                response = self._get(pointer, position, end, pinned)
                if response is None:
                    return
                pinned = response["ETag"]
                for block in self._body(pointer, response, block_bytes):
                    position += len(block)
                    failures = 0
                    yield block
            except StorageUnavailableError as error:
                failures += 1
                if failures >= backoff.attempts:
                    raise backoff.exhausted(error) from error
            else:
                return
            backoff.pause(failures)

    def _get(self, pointer: Pointer, start: int, end: int | None, if_match: str | None) -> Any:
        """Begin a GET; None if the range begins after the object's end."""
        arguments = name_arguments(pointer)
        if start > 0 or end is not None:
            arguments["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if if_match is not None:
            arguments["IfMatch"] = if_match
        try:
            return self._calls.call_once(pointer, "get_object", **arguments)
        except ObjectChangedError as error:
            raise self._changed(pointer, str(if_match)) from error
        except RangeOutsideObjectError:
            # S3 can also report an object that was replaced by a shorter one in this way.
            if if_match is not None and self.head(pointer).etag != if_match:
                raise self._changed(pointer, if_match) from None
            return None

    def _body(self, pointer: Pointer, response: Any, block_bytes: int | None) -> Iterator[bytes]:
        body, missing = response["Body"], int(response["ContentLength"])
        try:
            while block := self._calls.translated(pointer, lambda: body.read(block_bytes)):
                missing -= len(block)
                yield block
        finally:
            body.close()
        if missing:
            raise StorageUnavailableError(
                f"{pointer}: the body ended {missing} bytes early through {self._calls.connection}."
            )

    def _changed(self, pointer: Pointer, planned: str) -> StorageError:
        try:
            current = self.head(pointer).etag
        except StorageError as error:
            return ObjectChangedError(f"{pointer} has changed: ETag {planned} was planned; now: {error}")
        return ObjectChangedError(
            f"{pointer} has changed: its ETag is {current}, {planned} was planned ({self.description})."
        )
