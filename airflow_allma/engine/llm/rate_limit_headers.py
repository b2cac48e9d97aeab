"""Rate limits that providers report in response headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from airflow_allma.engine.llm.model_request import RateLimit, RateLimits

__all__ = ["anthropic_limits", "openai_limits", "parse_duration"]

_NO_LIMITS: Final = RateLimits()
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_LENGTH: Final = 40


def openai_limits(headers: Mapping[str, str]) -> RateLimits:
    """Return the limits in ``x-ratelimit-*`` headers, as OpenAI, Azure and many compatible servers send them.

    Args:
        headers: the headers of a response; their names in lower case.
    """
    return _limits(headers, "x-ratelimit-{part}-{kind}", parse_duration)


def anthropic_limits(headers: Mapping[str, str]) -> RateLimits:
    """Return the limits in ``anthropic-ratelimit-*`` headers, which give resets as dates.

    Args:
        headers: the headers of a response; their names in lower case.
    """
    now = headers.get("date", "")
    return _limits(headers, "anthropic-ratelimit-{kind}-{part}", lambda reset: _seconds_until(reset, now))


def _limits(
    headers: Mapping[str, str], pattern: str, parse_reset: Callable[[str], float | None]
) -> RateLimits:
    requests = _limit(headers, pattern, "requests", parse_reset)
    tokens = _limit(headers, pattern, "tokens", parse_reset)
    return _NO_LIMITS if requests is None and tokens is None else RateLimits(requests, tokens)


def _limit(
    headers: Mapping[str, str], pattern: str, kind: str, parse_reset: Callable[[str], float | None]
) -> RateLimit | None:
    limit, remaining, reset = (
        headers.get(pattern.format(kind=kind, part=part)) for part in ("limit", "remaining", "reset")
    )
    left = _count(remaining)
    return None if left is None else RateLimit(_count(limit), left, parse_reset(reset or ""))


def _count(value: str | None) -> int | None:
    if value is None or len(value) > _MAX_LENGTH or not (value.isascii() and value.isdigit()):
        return None
    return int(value)


def parse_duration(value: str) -> float | None:
    """Return a duration such as ``6m0s``, ``20ms``, ``1.5s`` or ``7`` in seconds; None if it is not one."""
    if not value or len(value) > _MAX_LENGTH or not value.isascii():
        return None
    seconds, end = 0.0, 0
    while part := _PART.match(value, end):
        seconds += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    if end == len(value):
        return seconds
    return float(value) if end == 0 and value.replace(".", "", 1).isdigit() else None


def _seconds_until(moment: str, now: str) -> float | None:
    """Return the seconds from one date until another.

    Both are the server's: the clock of this machine may differ.

    Args:
        moment: the later date, as in RFC 3339.
        now: the ``Date`` header; without a valid one, the clock of this machine is used.
    """
    try:
        until = datetime.fromisoformat(moment)
    except ValueError:
        return None
    try:
        since = parsedate_to_datetime(now)
    except (TypeError, ValueError, OverflowError):
        since = datetime.now(UTC)
    if until.tzinfo is None or since.tzinfo is None:
        return None
    return max(0.0, (until - since).total_seconds())
