"""Where this package writes: the offload location and the keys below it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.pointer import FILE_BUCKET, MAX_KEY_BYTES, Pointer, file_path, split_uri

__all__ = ["OffloadLocation", "key_segment"]

_MAX_IDENTIFIER: Final = 4096
_MAX_SEGMENT: Final = 120
_KEPT_CHARACTERS: Final = 80
_ENDING: Final = re.compile(r"(\.[a-z0-9]{1,16})*")
# "~" is reserved for segments that were shortened, so that no complete one can look like them.
_SAFE: Final = "=@,"


def key_segment(identifier: str) -> str:
    """Return one segment of a key, made from an identifier; different identifiers make different segments.

    Letters, digits and ``-_.=@,`` stay; everything else is percent-encoded. A segment that is too long for a
    file name is shortened and ends in ``~`` and a hash.

    Raises:
        StorageConfigurationError: the identifier is empty, longer than 4,096 characters, or contains control
            characters or broken Unicode: no identifier of a Dag, run, step or chunk does.
    """
    if not identifier or len(identifier) > _MAX_IDENTIFIER:
        raise StorageConfigurationError(
            f"An identifier in a key must have 1 to {_MAX_IDENTIFIER} characters, not {len(identifier)}."
        )
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in identifier):
        raise StorageConfigurationError(
            f"{identifier[:80]!r} contains control characters: it cannot name an object."
        )
    try:
        # quote() never encodes "~".
        segment = quote(identifier, safe=_SAFE).replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise StorageConfigurationError(
            f"{identifier[:80]!r} contains broken Unicode: it cannot name an object."
        ) from error
    if not segment.strip("."):
        segment = segment.replace(".", "%2E")
    if len(segment) > _MAX_SEGMENT:
        digest = hashlib.sha256(identifier.encode()).hexdigest()[:32]
        segment = f"{segment[:_KEPT_CHARACTERS]}~{digest}"
    return segment


@dataclass(frozen=True, slots=True)
class OffloadLocation:
    """A bucket and prefix, or a local folder, below which this package writes.

    Attributes:
        bucket: the bucket; ``FILE_BUCKET`` for a local folder.
        prefix: without a slash at either end; can be empty for a bucket.
        region: the bucket's AWS region, or None for the connection's.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read the setting: ``s3://bucket/prefix`` or ``file:///folder``.

        Raises:
            StorageConfigurationError: it is neither, or names the whole file system.
        """
        bucket, prefix = split_uri(uri.strip())
        location = cls(bucket, prefix.strip("/"))
        if bucket == FILE_BUCKET and not location.prefix:
            raise StorageConfigurationError(f"{uri!r} is the whole file system. Name a folder below it.")
        # Raises if the bucket or prefix is not allowed.
        location.pointer("x")
        return location

    @classmethod
    def from_setting(cls, setting: str | None) -> Self | None:
        """Read a setting; None if it is empty.

        Raises:
            StorageConfigurationError: as ``parse``.
        """
        return cls.parse(setting) if setting else None

    @property
    def folder(self) -> Path | None:
        """The local folder, or None when the location is in S3."""
        return file_path(self.bucket, self.prefix)

    @property
    def uri(self) -> str:
        """The location as a URI, which ``parse`` reads."""
        if not self.prefix:
            return f"s3://{self.bucket}"
        return Pointer(self.bucket, self.prefix).uri

    def below(self, *identifiers: str) -> Self:
        """Return a location below this one, with a segment for each identifier."""
        return replace(self, prefix=self._key(identifiers))

    def pointer(self, *identifiers: str, ending: str = "") -> Pointer:
        """Return the pointer of an object below this location.

        Args:
            identifiers: at least one, such as dag_id, run_id, step id, chunk number. Each becomes one
                segment, so different lists of identifiers never result in the same key.
            ending: such as ``.jsonl``; not user input.

        Raises:
            StorageConfigurationError: an identifier cannot be part of a key, or the key is too long.
        """
        if not identifiers or not _ENDING.fullmatch(ending):
            raise StorageConfigurationError(
                f"A key below {self.uri} needs identifiers and an ending such as .jsonl, not {ending!r}."
            )
        key = self._key(identifiers) + ending
        if len(key.encode()) > MAX_KEY_BYTES:
            raise StorageConfigurationError(
                f"A key below {self.uri} would be {len(key.encode())} bytes long; at most {MAX_KEY_BYTES} "
                "are allowed. Shorten the prefix of the offload location."
            )
        return Pointer(self.bucket, key, region=self.region)

    def _key(self, identifiers: tuple[str, ...]) -> str:
        segments = [key_segment(identifier) for identifier in identifiers]
        return "/".join([self.prefix, *segments] if self.prefix else segments)
