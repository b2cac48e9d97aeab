"""Is a text a time zone, a date, a schedule, an address?"""

from __future__ import annotations

import functools
import re
import zoneinfo
from datetime import datetime

__all__ = ["is_date", "is_email_address", "is_schedule", "is_templated", "is_time_zone"]

_SCHEDULE = re.compile(r"\s*(?:cron|rate)\(.+\)\s*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def is_templated(text: str) -> bool:
    """Whether what the text says is known only when it is rendered."""
    return "{{" in text or text.startswith("$.")


def is_schedule(text: str) -> bool:
    """Whether a text has the outer form of an AWS schedule expression, or is a template."""
    return is_templated(text) or _SCHEDULE.fullmatch(text) is not None


def is_email_address(text: str) -> bool:
    """Whether a text is one e-mail address, or is a template."""
    return is_templated(text) or _EMAIL.fullmatch(text) is not None


def is_date(text: str) -> bool:
    """Whether a text is an ISO 8601 date, or date and time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def is_time_zone(text: str) -> bool:
    """Whether a text is the IANA name of a time zone."""
    try:
        zoneinfo.ZoneInfo(text)
    # A name from a file may be any path: the library answers in all these ways.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
