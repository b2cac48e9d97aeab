"""The limits that providers report in the headers of their responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
        headers: of a response; lower-case names.
    """
    requests = _openai_limit(headers, "requests")
    tokens = _openai_limit(headers, "tokens")
    return _NO_LIMITS if requests is None and tokens is None else RateLimits(requests, tokens)


def _openai_limit(headers: Mapping[str, str], what: str) -> RateLimit | None:
    remaining = _count(headers.get(f"x-ratelimit-remaining-{what}"))
    if remaining is None:
        return None
    return RateLimit(
        _count(headers.get(f"x-ratelimit-limit-{what}")),
        remaining,
        parse_duration(headers.get(f"x-ratelimit-reset-{what}", "")),
    )


def anthropic_limits(headers: Mapping[str, str]) -> RateLimits:
    """Return the limits in ``anthropic-ratelimit-*`` headers, whose resets are dates.

    Args:
        headers: of a response; lower-case names.
    """
    requests = _anthropic_limit(headers, "requests")
    tokens = _anthropic_limit(headers, "tokens")
    return _NO_LIMITS if requests is None and tokens is None else RateLimits(requests, tokens)


def _anthropic_limit(headers: Mapping[str, str], what: str) -> RateLimit | None:
    remaining = _count(headers.get(f"anthropic-ratelimit-{what}-remaining"))
    if remaining is None:
        return None
    return RateLimit(
        _count(headers.get(f"anthropic-ratelimit-{what}-limit")),
        remaining,
        _seconds_until(headers.get(f"anthropic-ratelimit-{what}-reset", ""), headers.get("date", "")),
    )


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
    """Return the seconds until a date of RFC 3339, by the server's clock, as clocks differ."""
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
