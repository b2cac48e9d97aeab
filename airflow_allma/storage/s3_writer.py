"""Writing one S3 object of unknown length, with memory for one part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3_calls import S3Calls
from airflow_allma.storage.writer_base import WriterBase

__all__ = ["S3Writer"]

# S3 rejects parts below 5 MiB, except the last one.
PART_BYTES: Final = 8 << 20
# S3 allows 10,000 parts: larger parts after every 1,000 raise the limit from 80 GB to 440 GB.
_PARTS_PER_SIZE: Final = 1000


class S3Writer(WriterBase):
    """A multipart upload that begins when the first part is full; a smaller object is one PUT."""

    def __init__(
        self, calls: S3Calls, pointer: Pointer, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(pointer)
        self._calls = calls
        self._content_type = content_type
        self._metadata = dict(metadata or {})
        self._buffer = bytearray()
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._has_md5_etags = True
        self._sent = 0
        self._is_open = False

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._sent + len(self._buffer)

    def write(self, data: bytes) -> None:
        """Append bytes; sends each part as soon as it is full."""
        if not self._is_open:
            raise self._not_open()
        self._buffer += data
        while len(self._buffer) >= (size := PART_BYTES * (1 + len(self._parts) // _PARTS_PER_SIZE)):
            self._send(bytes(memoryview(self._buffer)[:size]))
            del self._buffer[:size]

    def __enter__(self) -> Self:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if error is not None:
            self._abort(error)
            return
        try:
            self._finish()
        except BaseException as failure:
            self._abort(failure)
            raise

    def _finish(self) -> None:
        if self._upload is None:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._info = self._calls.put(
                self._pointer, data, content_type=self._content_type, metadata=self._metadata
            )
            self._sent = len(data)
            return
        self._flush()
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": self._parts})
        except ObjectNotFoundError:
            # When the answer to a completion was lost, it is retried, and by then the upload is gone.
            info = self._calls.head(self._pointer)
            if info.size != self._sent or not self._is_etag_of_parts(info.etag):
                raise
        self._upload = None
        self._info = self._calls.head(self._pointer)

    def _is_etag_of_parts(self, etag: str) -> bool:
        """Return whether S3 can have made this ETag of the parts that were sent.

        With SSE-KMS or SSE-C the ETags are not MD5 sums: then only the number of parts can be compared.
        """
        ending = f'-{len(self._parts)}"'
        if not self._has_md5_etags:
            return etag.endswith(ending)
        parts = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in self._parts)
        return etag == f'"{hashlib.md5(parts, usedforsecurity=False).hexdigest()}{ending}'

    def _flush(self) -> None:
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._upload is None:
            name = {"Bucket": self._pointer.bucket, "Key": self._pointer.key}
            response = self._calls.call(
                self._pointer,
                "create_multipart_upload",
                ContentType=self._content_type,
                Metadata=self._metadata,
                **name,
            )
            self._upload = str(response["UploadId"])
        number = len(self._parts) + 1
        response = self._call("upload_part", PartNumber=number, Body=data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self._has_md5_etags = self._has_md5_etags and response["ETag"].strip('"') == md5
        self._parts.append({"PartNumber": number, "ETag": response["ETag"]})
        self._sent += len(data)

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._calls.call(
            self._pointer,
            operation,
            Bucket=self._pointer.bucket,
            Key=self._pointer.key,
            UploadId=self._upload,
            **arguments,
        )

    def _abort(self, reason: BaseException) -> None:
        if self._upload is None:
            return
        try:
            self._call("abort_multipart_upload")
        except StorageError as error:
            # The first error is the one that matters; the bucket's lifecycle rule removes the parts.
            reason.add_note(f"The unfinished upload {self._upload} could not be removed: {error}")
        self._upload = None
