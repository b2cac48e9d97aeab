"""Where this package puts what it writes: the offload location and the keys below it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.pointers import FILE_BUCKET, MAX_KEY_BYTES, Pointer, file_path, split_uri

__all__ = ["OffloadLocation", "key_segment"]

_LONGEST_IDENTIFIER: Final = 4096
_LONGEST_SEGMENT: Final = 120
_KEPT: Final = 80
_ENDING: Final = re.compile(r"(\.[a-z0-9]{1,16})*")
# "~" is left to segments that were cut, so that no whole one can look like them.
_SAFE: Final = "=@,"


def key_segment(identifier: str) -> str:
    """One segment of a key, made from an identifier; different identifiers give different segments.

    Letters, digits and ``-_.=@,`` stay; everything else is percent-encoded. What gets longer than a file name
    may be is cut and ends in ``~`` and its hash.

    Raises:
        StorageConfigurationError: it is empty, longer than 4,096 characters, or holds control characters or
            broken Unicode: no identifier of a Dag, run, step or chunk does.
    """
    if not identifier or len(identifier) > _LONGEST_IDENTIFIER:
        raise StorageConfigurationError(
            f"An identifier in a key must have 1 to {_LONGEST_IDENTIFIER} characters, not {len(identifier)}."
        )
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in identifier):
        raise StorageConfigurationError(
            f"{identifier[:80]!r} holds control characters: it cannot name an object."
        )
    try:
        # quote() leaves "~" alone in any case.
        segment = quote(identifier, safe=_SAFE).replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise StorageConfigurationError(
            f"{identifier[:80]!r} holds broken Unicode: it cannot name an object."
        ) from error
    if not segment.strip("."):
        segment = segment.replace(".", "%2E")
    if len(segment) > _LONGEST_SEGMENT:
        digest = hashlib.sha256(identifier.encode()).hexdigest()[:32]
        segment = f"{segment[:_KEPT]}~{digest}"
    return segment


@dataclass(frozen=True, slots=True)
class OffloadLocation:
    """A bucket and prefix, or a local folder, below which this package writes.

    Attributes:
        bucket: the bucket; ``FILE_BUCKET`` for a local folder.
        prefix: without a slash at either end; may be empty for a bucket.
        region: the bucket's AWS region, or None for the connection's.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting: ``s3://bucket/prefix`` or ``file:///folder``.

        Raises:
            StorageConfigurationError: it is neither, or names the whole file system.
        """
        bucket, prefix = split_uri(text.strip())
        location = cls(bucket, prefix.strip("/"))
        if bucket == FILE_BUCKET and not location.prefix:
            raise StorageConfigurationError(f"{text!r} is the whole file system: name a folder of its own.")
        # Made only to be checked.
        location.pointer("x")
        return location

    @classmethod
    def from_setting(cls, setting: str | None) -> Self | None:
        """Read a setting that may be empty; None when it is.

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
        """The setting's text for this location."""
        if not self.prefix:
            return f"s3://{self.bucket}"
        return Pointer(self.bucket, self.prefix).uri

    def below(self, *identifiers: str) -> Self:
        """A location further down, one segment an identifier."""
        return replace(self, prefix=self._key(identifiers))

    def pointer(self, *identifiers: str, ending: str = "") -> Pointer:
        """An object below this location.

        Args:
            identifiers: at least one; such as dag_id, run_id, step id, chunk number. Each becomes one
                segment, so different lists of identifiers never give the same key.
            ending: such as ``.jsonl``; of the program's own making.

        Raises:
            StorageConfigurationError: an identifier cannot be part of a key, or the key gets too long.
        """
        if not identifiers or not _ENDING.fullmatch(ending):
            raise StorageConfigurationError(
                f"A key below {self.uri} needs identifiers, and {ending!r} as ending."
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
