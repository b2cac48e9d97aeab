"""How fast calls are sent to one model: by configured limits, reported limits, and 429 responses.

Together, these keep calls below the provider's rate limit, even if other processes share it:

- Configured limits (``[allma] llm_limits``) space calls evenly.
- Limits that the provider reports in response headers: the remaining requests and tokens are spread over the
  time until the limit resets, with at most a minute between two calls. Processes that share a limit see the
  same remainder; each uses a part of it.
- A 429 response stops all calls for as long as the provider asks. After that, calls continue at the rate that
  was accepted before; the rate grows until the next 429.

Few calls are in flight at first, and more as calls succeed, so that an unknown limit rejects only a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from airflow_allma.engine.llm.model_request import RateLimit, RateLimits

__all__ = ["Allowance", "Pace"]

_MARGIN: Final = 0.97
"""Share of a configured limit that is used, as clocks and networks are not exact."""

_FIRST_CALLS: Final = 8
"""Calls in flight at first, if no limit of requests is configured."""

_WINDOW_GROWTH: Final = 0.2
"""By how much each call that succeeds raises the number of calls in flight."""

# Factors for the time between calls under a reported limit: for each 429, for each call, and the maximum.
_SLOWDOWN: Final = 1.5
_RECOVERY: Final = 0.995
_MAX_SLOWDOWN: Final = 32.0

_BACKOFF: Final = 0.1
"""Share by which the learned rate falls after a 429."""

_FIRST_REGAIN_SECONDS: Final = 1.0
_REGAIN_SECONDS: Final = 3.0
"""Seconds until the learned rate is what it was before a 429; shorter after the first one."""

_MEASURABLE_SECONDS: Final = 2.0
"""A rate that was measured over a shorter time is too inexact to use."""

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 60.0
"""Seconds without calls after a 429 that does not say how long to wait; the first pause doubles with each 429
that follows. The longest pause is also the longest time between two calls under a reported limit."""

_NEVER: Final = float("inf")
_TIMER_SECONDS: Final = 0.0005
"""Seconds; a shorter wait is skipped, as timers are less exact."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The configured limits of a model.

    Attributes:
        requests_per_minute: calls per minute; None for no limit.
        tokens_per_minute: tokens per minute, of requests and answers together; None for no limit.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Pace:
    """Decides when the next call can be sent. The caller does the waiting.

    Args:
        allowance: the configured limits.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, allowance: Allowance, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests = _Budget(allowance.requests_per_minute)
        self._tokens = _Budget(allowance.tokens_per_minute)
        self._reported = _Reported(), _Reported()
        self._learned = _Learned()
        self._in_flight = 0
        self._window = _NEVER if allowance.requests_per_minute else float(_FIRST_CALLS)

    def seconds_until_free(self, tokens: int) -> float:
        """Return for how many seconds the next call must wait; infinity until another call has ended.

        Args:
            tokens: an estimate of its tokens.
        """
        now = self._clock()
        if self._in_flight >= self._window:
            return _NEVER
        at = max(
            self._requests.free_at(now),
            self._tokens.free_at(now),
            self._reported[0].free_at(now, 1),
            self._reported[1].free_at(now, tokens),
            self._learned.free_at(now),
        )
        wait = at - now
        return wait if wait > _TIMER_SECONDS else 0.0

    def sent(self, tokens: int) -> float:
        """Count a call that is being sent; return the time, for ``rate_limited``."""
        now = self._clock()
        self._in_flight += 1
        self._requests.spend(now, 1)
        self._tokens.spend(now, tokens)
        self._reported[0].spend(now, 1)
        self._reported[1].spend(now, tokens)
        self._learned.sent(now)
        return now

    def accepted(self, limits: RateLimits, estimated: int, tokens: int) -> None:
        """Count a call that the provider answered.

        Args:
            limits: the limits that the response reports.
            estimated: the tokens that were passed to ``sent``.
            tokens: the tokens that the provider counted.
        """
        now = self._clock()
        self.ended()
        self._window += _WINDOW_GROWTH
        self._tokens.spend(now, tokens - estimated)
        self._learned.accepted()
        self._note(now, limits)

    def rate_limited(self, sent_at: float, retry_after: float | None, limits: RateLimits) -> None:
        """Count a call that ended with a 429 response.

        Args:
            sent_at: what ``sent`` returned.
            retry_after: seconds that the provider asks to wait; None if it does not.
            limits: the limits that the response reports.
        """
        now = self._clock()
        self.ended()
        self._window = _NEVER
        self._note(now, limits)
        used_up = [reported for reported in self._reported if reported.is_used_up]
        if self._learned.rate_limited(now, sent_at, retry_after, is_explained=bool(used_up)):
            for reported in used_up:
                reported.slow_down()

    def ended(self) -> None:
        """Count a call that failed in another way."""
        self._in_flight -= 1

    def _note(self, now: float, limits: RateLimits) -> None:
        requests, tokens = self._reported
        if limits.requests is not None:
            # The provider has not counted the calls in flight yet.
            requests.note(now, limits.requests, self._in_flight)
        if limits.tokens is not None:
            tokens.note(now, limits.tokens, 0)


class _Budget:
    """A configured limit, spent evenly.

    Args:
        per_minute: the limit; None for none.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / (per_minute * _MARGIN) if per_minute else 0.0
        self._free_at = 0.0

    def free_at(self, now: float) -> float:
        return self._free_at if self._seconds_each else now

    def spend(self, now: float, amount: float) -> None:
        if self._seconds_each:
            # Overestimated tokens are credited, but never as a burst of calls.
            self._free_at = max(now if amount >= 0 else 0.0, self._free_at) + amount * self._seconds_each


class _Reported:
    """A limit that the provider reports, less what was sent since."""

    def __init__(self) -> None:
        self._limit = 0.0
        self._remaining = _NEVER
        self._until = 0.0
        self._period = 0.0
        self._last = 0.0
        self._slowdown = 1.0

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of the limit, which explains a 429."""
        return self._limit > 0 and self._remaining < 1

    def note(self, now: float, limit: RateLimit, in_flight: int) -> None:
        if not limit.limit or limit.reset_seconds is None:
            return
        self._limit = float(limit.limit)
        self._remaining = max(0.0, float(limit.remaining - in_flight))
        self._until = now + limit.reset_seconds
        self._period = max(self._period, limit.reset_seconds)

    def free_at(self, now: float, amount: float) -> float:
        if not self._limit or amount <= 0:
            return now
        if now >= self._until:
            # All of it is available again, but not for a burst: other processes wait for the same moment.
            self._remaining, self._until = self._limit, now + self._period
        amount = min(amount, self._limit)
        # Many limits refill continuously, and a call that comes too early only gets a 429.
        latest = self._last + _LONGEST_PAUSE
        if self._remaining < amount:
            return min(self._until, latest)
        left = self._until - max(self._last, self._until - self._period)
        spread = left * amount / self._remaining * self._slowdown
        return min(self._last + min(spread, self._period), latest)

    def spend(self, now: float, amount: float) -> None:
        self._remaining = max(0.0, self._remaining - amount)
        self._last = now
        self._slowdown = max(1.0, self._slowdown * _RECOVERY)

    def slow_down(self) -> None:
        """Send calls more slowly, as other processes use the same limit."""
        self._slowdown = min(self._slowdown * _SLOWDOWN, _MAX_SLOWDOWN)


class _Learned:
    """The rate that 429 responses have shown to be possible, in calls per second.

    After a 429 the rate falls by a tenth. It is back at its former value within seconds, stays near it, and
    then grows faster and faster until the next 429: a cubic curve, as in TCP CUBIC.
    """

    def __init__(self) -> None:
        self._highest: float | None = None
        self._regain = _FIRST_REGAIN_SECONDS
        self._began: float | None = None
        self._accepted = 0
        self._paused_until = 0.0
        self._free_at = 0.0
        self._pauses = 0

    def free_at(self, now: float) -> float:
        return max(now, self._paused_until, self._free_at)

    def rate(self, now: float) -> float:
        """Return the rate at a time, in calls per second; infinity before the first 429."""
        if self._highest is None:
            return _NEVER
        since = max(0.0, now - (self._began if self._began is not None else now))
        return self._highest * (1 + _BACKOFF * (since / self._regain - 1) ** 3)

    def sent(self, now: float) -> None:
        if self._began is None:
            self._began = now
        self._free_at = max(now, self._free_at) + 1 / self.rate(now)

    def accepted(self) -> None:
        self._accepted += 1
        self._pauses = 0

    def rate_limited(
        self, now: float, sent_at: float, retry_after: float | None, *, is_explained: bool
    ) -> bool:
        """Begin a pause; return whether the 429 is new: its call was sent after the last pause."""
        if self._began is None or sent_at < max(self._began, self._paused_until):
            # The call was sent before the last pause, so its 429 says nothing new.
            return False
        pause = retry_after if retry_after is not None else _FIRST_PAUSE * 2.0**self._pauses
        self._pauses = min(self._pauses + 1, 10)
        self._paused_until = now + (min(pause, _LONGEST_PAUSE) if retry_after is None else pause)
        if is_explained:
            return True
        seconds = self._paused_until - self._began
        # Providers count in periods of a second or more: a shorter burst used what had been saved up before.
        measured = max(self._accepted, 1) / max(seconds, 1.0)
        if self._highest is None:
            self._highest = measured
        else:
            self._highest = (
                min(measured, self.rate(now)) if seconds >= _MEASURABLE_SECONDS else self.rate(now)
            )
            self._regain = _REGAIN_SECONDS
        self._began = self._free_at = self._paused_until
        self._accepted = 0
        return True
