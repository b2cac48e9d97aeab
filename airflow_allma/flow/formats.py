"""Whether a string is a time zone, a date, a schedule, an address or the name of a header."""

from __future__ import annotations

import functools
import re
import zoneinfo
from datetime import datetime
from urllib.parse import unquote

__all__ = [
    "is_date",
    "is_email_address",
    "is_header_name",
    "is_location",
    "is_schedule",
    "is_templated",
    "is_time_zone",
]

_SCHEDULE = re.compile(r"\s*(?:cron|rate)\(.+\)\s*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_S3_LOCATION = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9](?:/(.*))?")
_FILE_LOCATION = re.compile(r"file:///(.+)")
_MAX_PREFIX_BYTES = 512


def is_templated(value: str) -> bool:
    """Return whether a string gets its value only when it is rendered."""
    return "{{" in value or value.startswith("$.")


def is_schedule(value: str) -> bool:
    """Return whether a string has the outer form of an AWS schedule expression, or is a template."""
    return is_templated(value) or _SCHEDULE.fullmatch(value) is not None


def is_email_address(value: str) -> bool:
    """Return whether a string is one e-mail address, or is a template."""
    return is_templated(value) or _EMAIL.fullmatch(value) is not None


def is_location(value: str) -> bool:
    """Return whether a string is ``s3://bucket/prefix`` or ``file:///folder``; a template is neither."""
    match = _S3_LOCATION.fullmatch(value) or _FILE_LOCATION.fullmatch(value)
    if match is None or value != value.strip() or "{{" in value:
        return False
    prefix = match[1] or ""
    if value.startswith("file:"):
        prefix = unquote(prefix).strip("/")
        if "\\" in prefix or any(segment in {"", ".", ".."} for segment in prefix.split("/")):
            return False
    # No control characters, and no broken Unicode, which has no bytes.
    if not all(char.isprintable() for char in prefix):
        return False
    return len(prefix.encode()) <= _MAX_PREFIX_BYTES


def is_header_name(value: str) -> bool:
    """Return whether a string can be the name of an HTTP header."""
    return _HEADER_NAME.fullmatch(value) is not None


def is_date(value: str) -> bool:
    """Return whether a string is an ISO 8601 date, or date and time."""
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def is_time_zone(value: str) -> bool:
    """Return whether a string is the IANA name of a time zone."""
    try:
        zoneinfo.ZoneInfo(value)
    # A name from a file can be any path: the library raises all of these.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
