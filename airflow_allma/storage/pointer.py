"""Pointers: the names of objects in S3 or below a folder of this machine.

In a flow's data a pointer is the wrapper ``{"_s3_output_pointer": {"bucket", "key", "versionId"?,
"region"?}}`` or, where a pointer to items is expected, the inner object alone. In settings it is a URI.

A local file that is named by a URI has the bucket ``file://`` and, as its key, its path without the leading
slash. An S3 bucket cannot have that name, so the two are never confused. The store, not the pointer, decides
which folders can be reached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote

from airflow_allma.common.json_types import type_name
from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.exceptions import StorageConfigurationError

__all__ = ["FILE_BUCKET", "MAX_KEY_BYTES", "Pointer"]

FILE_BUCKET: Final = "file://"
"""The bucket of every pointer that names a local file by its path."""

MAX_KEY_BYTES: Final = 1024
"""The limit of S3, which local files share, so that a flow that works locally works on S3, too."""

_MAX_BUCKET_CHARACTERS: Final = 255
_MAX_DETAIL_CHARACTERS: Final = 1024
_BARE_FIELDS: Final = frozenset({"bucket", "key", "versionId", "region"})
# Control characters break logs and headers; lone surrogates cannot be sent at all.
_BROKEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NEEDS: Final = f"A pointer ({POINTER_KEY}) needs a bucket and a key, both strings and not empty"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The name of one object, or of one version of it.

    Attributes:
        bucket: S3 bucket (or access point ARN), or ``FILE_BUCKET``.
        key: the object's key in that bucket, not percent-encoded.
        version_id: one version, or None for the current one.
        region: the bucket's AWS region, or None for the connection's.

    Raises:
        StorageConfigurationError: at construction, if a part is empty, too long or contains characters that
            an object's name must not contain; for local files also if the path has ``.``, ``..`` or empty
            segments.
    """

    bucket: str
    key: str
    version_id: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        _check_part("bucket", self.bucket, _MAX_BUCKET_CHARACTERS)
        _check_part("key", self.key, MAX_KEY_BYTES)
        if self.version_id is not None:
            _check_part("versionId", self.version_id, _MAX_DETAIL_CHARACTERS)
        if self.region is not None:
            _check_part("region", self.region, _MAX_BUCKET_CHARACTERS)
        if len(self.key.encode()) > MAX_KEY_BYTES:
            raise StorageConfigurationError(
                f"The key of a pointer is {len(self.key.encode())} bytes long; S3 allows {MAX_KEY_BYTES}. "
                f"It starts with {self.key[:80]!r}."
            )
        if self.bucket == FILE_BUCKET:
            check_local_segments(self.key)
        elif self.bucket in {".", ".."} or ("/" in self.bucket and not self.bucket.startswith("arn:")):
            raise StorageConfigurationError(
                f"{self.bucket!r} is not a bucket's name. Put what follows a slash into the key."
            )

    @property
    def uri(self) -> str:
        """``s3://bucket/key`` or ``file:///path``; version and region are not part of it."""
        return f"file:///{quote(self.key)}" if self.is_file else f"s3://{self.bucket}/{self.key}"

    @property
    def is_file(self) -> bool:
        """Whether it names a local file by its path."""
        return self.bucket == FILE_BUCKET

    def __str__(self) -> str:
        version = f" (version {self.version_id})" if self.version_id else ""
        return f"{self.uri}{version}"

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """Read a pointer from a flow's data.

        Args:
            value: any JSON value; a pointer is a wrapper (with or without other fields), or a bare pointer
                (without other fields).

        Returns:
            The pointer, or None when ``value`` is ordinary data.

        Raises:
            StorageConfigurationError: it is a pointer, but a part of it is missing, empty or not allowed.
        """
        if not isinstance(value, Mapping):
            return None
        if POINTER_KEY in value:
            return cls.from_inner(value[POINTER_KEY])
        return cls.from_inner(value) if _is_bare(value) else None

    @classmethod
    def from_inner(cls, inner: object) -> Self:
        """Read the object inside of a wrapper.

        Raises:
            StorageConfigurationError: a part of it is missing, empty or not allowed.
        """
        if not isinstance(inner, Mapping):
            raise StorageConfigurationError(f"{_NEEDS}; this one is {type_name(inner)}.")
        for part in ("bucket", "key"):
            value = inner.get(part)
            if isinstance(value, str) and value:
                continue
            found = f"its {part} is {_described(value)}" if part in inner else f"it has no {part}"
            fields = ", ".join(repr(str(name)[:40]) for name in sorted(map(str, inner))[:10]) or "nothing"
            raise StorageConfigurationError(f"{_NEEDS}; {found} (its fields: {fields}).")
        return cls(
            inner["bucket"],
            inner["key"],
            version_id=_optional_part(inner, "versionId"),
            region=_optional_part(inner, "region"),
        )

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Read ``s3://bucket/key`` (not percent-decoded) or ``file:///path`` (percent-decoded).

        Raises:
            StorageConfigurationError: it is neither, or its bucket or key is missing or not allowed.
        """
        bucket, key = split_uri(uri)
        if not key:
            raise StorageConfigurationError(
                f"{uri!r} does not name an object: add its key after the bucket or folder."
            )
        return cls(bucket, key)

    def inner(self) -> dict[str, Any]:
        """Return the JSON object ``{"bucket", "key", "versionId"?, "region"?}``."""
        inner: dict[str, Any] = {"bucket": self.bucket, "key": self.key}
        if self.version_id is not None:
            inner["versionId"] = self.version_id
        if self.region is not None:
            inner["region"] = self.region
        return inner

    def wrap(self) -> dict[str, Any]:
        """Return the wrapper that represents this object's content in a flow's data."""
        return {POINTER_KEY: self.inner()}


def _is_bare(value: Mapping[str, Any]) -> bool:
    """Return whether an object without the wrapper can only be a pointer: both parts are strings, or null."""
    return _BARE_FIELDS.issuperset(value) and all(
        part in value and isinstance(value[part], str | None) for part in ("bucket", "key")
    )


def _described(value: object) -> str:
    return "empty" if value == "" else type_name(value)


def _optional_part(inner: Mapping[str, Any], name: str) -> str | None:
    """Return an optional part of a pointer; an empty one is none.

    Raises:
        StorageConfigurationError: it is not a string. Ignored, it would lead to another object.
    """
    value = inner.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise StorageConfigurationError(
            f"The {name} of a pointer must be a string; it is {_described(value)}. Put it in quotes, or "
            "remove it for the current version and the connection's region."
        )
    return value


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key (or prefix, perhaps empty) of an ``s3://`` or ``file:///`` URI.

    Raises:
        StorageConfigurationError: it is not such a URI.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "s3":
        bucket, _, key = rest.partition("/")
        if bucket:
            return bucket, key
    if separator and scheme == "file" and rest.startswith("/"):
        return FILE_BUCKET, unquote(rest).lstrip("/")
    raise StorageConfigurationError(
        f"{uri!r} is not the URI of an object. Write s3://bucket/key or file:///folder/file (three slashes)."
    )


def file_path(bucket: str, key: str) -> Path | None:
    """Return the path of the local file or folder that a bucket and key name; None for S3."""
    return Path("/", key) if bucket == FILE_BUCKET else None


def check_local_segments(path: str) -> None:
    """Reject a key that cannot be a file in a folder, or that would lead out of it.

    Raises:
        StorageConfigurationError: a segment is empty, ``.`` or ``..``, or contains a backslash.
    """
    if "\\" in path or any(segment in {"", ".", ".."} for segment in path.split("/")):
        raise StorageConfigurationError(
            f"{path[:200]!r} cannot be the key of an object: its segments must not be empty, '.' or '..', "
            "and must not contain backslashes."
        )


def check_writable(pointer: Pointer) -> None:
    """Reject writing to a version: the store creates versions.

    Raises:
        StorageConfigurationError: the pointer names a version.
    """
    if pointer.version_id is not None:
        raise StorageConfigurationError(
            f"{pointer} names a version, which cannot be written. Remove the version."
        )


def _check_part(name: str, part: object, max_characters: int) -> None:
    if not isinstance(part, str) or not part:
        raise StorageConfigurationError(f"The {name} of a pointer must be a string and not empty.")
    if len(part) > max_characters:
        raise StorageConfigurationError(
            f"The {name} of a pointer is {len(part)} characters long; at most {max_characters} are allowed. "
            f"It starts with {part[:80]!r}."
        )
    if _BROKEN.search(part):
        raise StorageConfigurationError(
            f"The {name} of a pointer contains control characters or broken Unicode: {part[:80]!r}."
        )
