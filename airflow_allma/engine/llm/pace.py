"""How fast the calls of one model are sent: by configured limits, by reported ones, and by refusals.

The three together keep calls below a provider's limit, also if other processes share it:

- Configured limits (``[allma] llm_limits``) space calls evenly.
- Limits that the provider reports with its responses: what remains is spread over the time until all of it is
  available again. Processes that share a limit see the same rest, and each takes a part of it.
- A refusal (429) stops all calls for as long as the provider asks. Afterwards they go on at the speed at
  which calls were accepted before, which grows slowly while none is refused.

New connections begin with few calls in flight, and double as long as calls succeed, as in TCP's slow start: a
limit that is not known yet then refuses few calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from airflow_allma.engine.llm.model_request import RateLimit, RateLimits

__all__ = ["Allowance", "Pace"]

_MARGIN: Final = 0.97
"""Share of a configured limit that is used: clocks and networks are not exact."""

_FIRST_CALLS: Final = 8
_BACKOFF: Final = 0.9
_GROWTH_PER_SECOND: Final = 0.01
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 60.0
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider allows for a model; None for no limit that is known.

    Attributes:
        requests_per_minute: calls in a minute.
        tokens_per_minute: tokens in a minute, of requests and answers together.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Pace:
    """When the next call can be sent. It never waits itself: its caller does.

    Args:
        allowance: the configured limits.
        clock: seconds that only grow.
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
        """Return how long the next call has to wait; 0 for not at all, infinity until another call has ended.

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
        return max(0.0, at - now)

    def sent(self, tokens: int) -> float:
        """Count a call that is being sent; return the time of it, for ``accepted`` and ``refused``."""
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
            limits: what the provider reports.
            estimated: the tokens that were estimated when it was sent.
            tokens: its tokens.
        """
        now = self._clock()
        self.ended()
        self._window += 1
        self._tokens.spend(now, tokens - estimated)
        self._learned.accepted()
        self._note(now, limits)

    def refused(self, sent_at: float, retry_after: float | None, limits: RateLimits) -> None:
        """Count a call that the provider refused for now.

        Args:
            sent_at: what ``sent`` returned.
            retry_after: seconds that the provider asks to wait, if it says so.
            limits: what the provider reports.
        """
        now = self._clock()
        self.ended()
        self._window = _NEVER
        self._note(now, limits)
        self._learned.refused(now, sent_at, retry_after)

    def ended(self) -> None:
        """Count a call that ended in another way."""
        self._in_flight -= 1

    def _note(self, now: float, limits: RateLimits) -> None:
        requests, tokens = self._reported
        if limits.requests is not None:
            # The provider has not counted the calls yet that are on their way.
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
            # What was overestimated comes back, but never as a burst of calls.
            self._free_at = max(now if amount >= 0 else 0.0, self._free_at) + amount * self._seconds_each


class _Reported:
    """A limit that the provider reports, and what was sent since."""

    def __init__(self) -> None:
        self._limit: float | None = None
        self._remaining = _NEVER
        self._until = 0.0
        self._last = 0.0

    def note(self, now: float, limit: RateLimit, on_their_way: int) -> None:
        self._limit = limit.limit
        self._remaining = max(0.0, float(limit.remaining - on_their_way))
        self._until = now + (limit.reset_seconds if limit.reset_seconds is not None else 60.0)

    def free_at(self, now: float, amount: float) -> float:
        if self._limit is None or now >= self._until or amount <= 0:
            return now
        if self._remaining < amount:
            # A bucket that fills has something before it is full; a refusal would say when.
            return self._last + max(self._until - self._last, 0.0) * min(1.0, amount / max(self._limit, 1))
        return self._last + (self._until - now) * amount / self._remaining

    def spend(self, now: float, amount: float) -> None:
        self._remaining = max(0.0, self._remaining - amount)
        self._last = now


class _Learned:
    """The speed that refusals have shown to be possible."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._since = 0.0
        self._began: float | None = None
        self._accepted = 0
        self._paused_until = 0.0
        self._changed = 0.0
        self._free_at = 0.0
        self._pauses = 0

    def free_at(self, now: float) -> float:
        if self._rate is None:
            return now
        return max(self._paused_until, self._free_at)

    def sent(self, now: float) -> None:
        if self._began is None:
            self._began = now
        if self._rate is not None:
            # Grows by a share of itself in a second.
            self._rate *= 1 + _GROWTH_PER_SECOND * (now - self._since)
            self._since = now
            self._free_at = max(now, self._free_at) + 1 / self._rate

    def accepted(self) -> None:
        self._accepted += 1
        self._pauses = 0

    def refused(self, now: float, sent_at: float, retry_after: float | None) -> None:
        if self._rate is not None and sent_at < self._changed:
            # Sent before the last pause: it says nothing new.
            return
        pause = retry_after if retry_after is not None else _FIRST_PAUSE * 2.0**self._pauses
        self._pauses = min(self._pauses + 1, 10)
        self._paused_until = now + min(pause, _LONGEST_PAUSE)
        cycle = max(self._paused_until - (self._began if self._began is not None else now), 0.001)
        self._rate = max(self._accepted, 1) / cycle * _BACKOFF
        self._changed = self._since = self._began = self._free_at = self._paused_until
        self._accepted = 0
