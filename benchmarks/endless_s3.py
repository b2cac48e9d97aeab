"""An S3 without bytes: a manifest, stored results and listings of any size are made up as they are read.

It is a boto3 client, so that the package's own S3 store does everything else. What is written is counted and
forgotten. A reply takes no time, but making one up takes CPU time, which ``fake_seconds`` sums up.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from time import thread_time
from typing import Any

from botocore.exceptions import ClientError

from airflow_allma.storage.manifest_ranges import ByteRange

MANIFEST = "manifests/users.jsonl"
OBJECTS = "incoming/2026/users/"
_LINE = b'{"id":"u-%010d","region":"eu-west-1","note":"' + b"n" * 112 + b'"}\n'
LINE_BYTES = len(_LINE % 0)
# The item's index has blanks before it, so that all lines are of one length.
_RESULT = (
    b'{"item":%8d,"offset":123456789012,"branch":"each","status":"ok",'
    b'"output":{"id":"u-0123456789","region":"eu-west-1","kind":"customer"}}\n'
)
RESULT_BYTES = len(_RESULT % 0)
_ETAG = f'"{hashlib.sha256(b"").hexdigest()[:32]}"'
_DATE = datetime(2026, 1, 1, tzinfo=UTC)
_KINDS = {
    "get_object": "GET",
    "head_object": "HEAD",
    "list_objects_v2": "LIST",
    "put_object": "PUT",
    "create_multipart_upload": "PUT",
    "upload_part": "PUT",
    "complete_multipart_upload": "PUT",
}


def lines_in(place: ByteRange) -> range:
    """Return the numbers of the manifest's lines that a range of its bytes owns."""
    first = 0 if place.start == 0 else place.start // LINE_BYTES + 1
    return range(first, place.end // LINE_BYTES + 1)


class EndlessS3:
    """A boto3 client, and the source of it.

    Args:
        items: lines of the manifest.
        listed: objects below the prefix ``OBJECTS``.
        chunks: the items of each chunk with stored results.
        part_bytes: the size of the parts of stored results.

    Attributes:
        requests: how many there were of each kind.
        bytes: how many were read and written.
    """

    connection = "a made-up S3"

    def __init__(
        self, items: int = 0, *, listed: int = 0, chunks: list[int] | None = None, part_bytes: int = 1 << 20
    ) -> None:
        self.items, self.listed = items, listed
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.fake_seconds = 0.0
        self._chunks = chunks or []
        self._part_lines = -(-part_bytes // RESULT_BYTES)
        self._written: dict[str, int] = {}
        self._lock = threading.Lock()

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:  # noqa: ARG002 - as the protocol says
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _KINDS:
            raise AttributeError(name)
        reply = getattr(self, f"_{name}")

        def call(**arguments: Any) -> Any:
            with self.making():
                self.requests[_KINDS[name]] += 1
                return reply(arguments)

        return call

    @contextmanager
    def making(self) -> Iterator[None]:
        before = thread_time()
        yield
        with self._lock:
            self.fake_seconds += thread_time() - before

    def _size(self, key: str) -> int:
        if key == MANIFEST:
            return self.items * LINE_BYTES
        if part := _Part.parse(key):
            return part.size
        if key not in self._written:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": key}}, "GetObject")
        return self._written[key]

    def _head_object(self, arguments: Mapping[str, Any]) -> Any:
        return {"ContentLength": self._size(arguments["Key"]), "ETag": _ETAG}

    def _get_object(self, arguments: Mapping[str, Any]) -> Any:
        size = self._size(arguments["Key"])
        place = ByteRange(0, size)
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", arguments.get("Range", "")):
            place = ByteRange(int(match[1]), min(size, int(match[2] or size) + 1))
        part = _Part.parse(arguments["Key"])
        body = _Body(self, _LINE, 0, place) if part is None else _Body(self, _RESULT, part.first, place)
        return {"ContentLength": place.end - place.start, "ETag": _ETAG, "Body": body}

    def _list_objects_v2(self, arguments: Mapping[str, Any]) -> Any:
        begin = int(arguments.get("ContinuationToken", "0"))
        count, entry = self._listing(arguments["Prefix"])
        end = min(count, begin + arguments["MaxKeys"])
        return {
            "Contents": [
                {"Key": key, "Size": size, "ETag": _ETAG, "LastModified": _DATE, "StorageClass": "STANDARD"}
                for key, size in map(entry, range(begin, end))
            ],
            "KeyCount": end - begin,
            "IsTruncated": end < count,
            "NextContinuationToken": str(end),
        }

    def _listing(self, prefix: str) -> tuple[int, Callable[[int], tuple[str, int]]]:
        """Return how many objects are below a prefix, and what returns the key and the size of each."""
        if prefix.startswith(OBJECTS):
            return self.listed, lambda number: (f"{OBJECTS}{number:010d}.json", 2000)
        match = re.fullmatch(r".+/(\d{6})/parts/", prefix)
        items = self._chunks[int(match[1])] if match and self._chunks else 0
        return -(-items // self._part_lines), _parts(prefix, items, self._part_lines)

    def _put_object(self, arguments: Mapping[str, Any]) -> Any:
        self._written[arguments["Key"]] = len(arguments["Body"])
        self.bytes["written"] += len(arguments["Body"])
        return {"ETag": _ETAG}

    def _create_multipart_upload(self, arguments: Mapping[str, Any]) -> Any:
        self._written[arguments["Key"]] = 0
        return {"UploadId": "1"}

    def _upload_part(self, arguments: Mapping[str, Any]) -> Any:
        body = arguments["Body"]
        self._written[arguments["Key"]] += len(body)
        self.bytes["written"] += len(body)
        return {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}

    def _complete_multipart_upload(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ARG002 - as the others
        return {"ETag": _ETAG}


class _Part:
    """A part of stored results, as its key says."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.size = first, count * RESULT_BYTES

    @classmethod
    def parse(cls, key: str) -> _Part | None:
        match = re.search(r"/parts/\d+-(\d+)-\d+-(\d+)-stored\.jsonl$", key)
        return None if match is None else cls(int(match[1]), int(match[2]))


def _parts(folder: str, items: int, part_lines: int) -> Callable[[int], tuple[str, int]]:
    def entry(number: int) -> tuple[str, int]:
        first = number * part_lines
        count = min(items - first, part_lines)
        name = f"{number:06d}-{first:010d}-{first + count - 1:010d}-{count}-stored.jsonl"
        return f"{folder}{name}", count * RESULT_BYTES

    return entry


class _Body:
    """The bytes of a reply: a range of lines of one length that count up from ``first``."""

    def __init__(self, store: EndlessS3, template: bytes, first: int, place: ByteRange) -> None:
        self._store, self._template, self._first = store, template, first
        self._at, self._end = place

    def read(self, size: int | None = None) -> bytes:
        with self._store.making():
            start, end = self._at, self._end if size is None else min(self._end, self._at + size)
            template = self._template
            length = len(template % 0)
            low, high = start // length, -(-end // length)
            lines = b"".join([template % n for n in range(self._first + low, self._first + high)])
            self._at = end
            self._store.bytes["read"] += end - start
            return lines[start - low * length : end - low * length]

    def close(self) -> None:
        pass
