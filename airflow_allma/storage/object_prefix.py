"""Prefixes: the objects of a bucket whose keys begin alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.pointer import FILE_BUCKET, Pointer

__all__ = ["ObjectPrefix"]

_FIELDS: Final = frozenset({"bucket", "prefix"})


@dataclass(frozen=True, slots=True)
class ObjectPrefix:
    """The objects of a bucket whose keys start with a prefix.

    Attributes:
        bucket: S3 bucket (or access point ARN), or ``FILE_BUCKET``.
        prefix: how the keys start; empty for the whole bucket.

    Raises:
        StorageConfigurationError: at construction, if a part is not allowed in the name of an object.
    """

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        # The rules of pointers: a prefix is a key, too, except that it can be empty or end in a slash.
        Pointer(self.bucket, self.prefix.rstrip("/") or "x")

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix`` or ``file:///prefix``."""
        return f"file:///{self.prefix}" if self.bucket == FILE_BUCKET else f"s3://{self.bucket}/{self.prefix}"

    def __str__(self) -> str:
        return self.uri

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """Read a prefix from a flow's data.

        Args:
            value: any JSON value; a prefix is ``{"bucket", "prefix"}`` without other fields, both strings.

        Returns:
            The prefix, or None when ``value`` is other data.

        Raises:
            StorageConfigurationError: it is a prefix, but a part of it is not allowed.
        """
        if not isinstance(value, Mapping) or value.keys() != _FIELDS:
            return None
        bucket, prefix = value["bucket"], value["prefix"]
        if not isinstance(bucket, str) or not isinstance(prefix, str):
            return None
        if not bucket:
            raise StorageConfigurationError(f"The bucket of the prefix {prefix[:80]!r} is empty.")
        return cls(bucket, prefix)

    def inner(self) -> dict[str, str]:
        """Return the JSON object ``{"bucket", "prefix"}``, which ``parse`` reads."""
        return {"bucket": self.bucket, "prefix": self.prefix}
