"""How fast the calls of one model are sent: by configured limits, by reported ones, and by refusals.

The three together keep calls below a provider's limit, also if other processes share it:

- Configured limits (``[allma] llm_limits``) space calls evenly.
- Limits that the provider reports with its responses: what remains is spread over the time until all of it is
  available again, for a minute between two calls at most. Processes that share a limit see the same rest,
  and each takes a part of it.
- A refusal (429) stops all calls for as long as the provider asks. Afterwards they go on at the speed at
  which calls were accepted before, which grows while none is refused.

The first calls are few, and more are in flight as calls succeed: a limit that is not known yet then refuses
few of them.
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
_WINDOW_GROWTH: Final = 0.2
"""How many more calls can be in flight after each that succeeded."""

_CAUTION_GAINED: Final = 1.5
_CAUTION_LOST: Final = 0.995
_MOST_CAUTION: Final = 32.0
_BACKOFF: Final = 0.1
_FIRST_REGAIN_SECONDS: Final = 1.0
_REGAIN_SECONDS: Final = 3.0
_MEASURABLE_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 60.0
_NEVER: Final = float("inf")
_TIMER_SECONDS: Final = 0.0005
"""A shorter wait is none: timers are not more exact."""


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
        wait = at - now
        return wait if wait > _TIMER_SECONDS else 0.0

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
        self._window += _WINDOW_GROWTH
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
        used_up = [reported for reported in self._reported if reported.is_used_up]
        if self._learned.refused(now, sent_at, retry_after, is_explained=bool(used_up)):
            for reported in used_up:
                reported.refused()

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
        self._limit = 0.0
        self._remaining = _NEVER
        self._until = 0.0
        self._period = 0.0
        self._last = 0.0
        self._caution = 1.0

    @property
    def is_used_up(self) -> bool:
        """Whether it explains a refusal."""
        return self._limit > 0 and self._remaining < 1

    def note(self, now: float, limit: RateLimit, on_their_way: int) -> None:
        if not limit.limit or limit.reset_seconds is None:
            return
        self._limit = float(limit.limit)
        self._remaining = max(0.0, float(limit.remaining - on_their_way))
        self._until = now + limit.reset_seconds
        self._period = max(self._period, limit.reset_seconds)

    def free_at(self, now: float, amount: float) -> float:
        if not self._limit or amount <= 0:
            return now
        if now >= self._until:
            # All of it is available again, but not for a burst: others wait for the same moment.
            self._remaining, self._until = self._limit, now + self._period
        amount = min(amount, self._limit)
        # Many limits fill up again little by little, and a call that comes too early is only refused.
        latest = self._last + _LONGEST_PAUSE
        if self._remaining < amount:
            return min(self._until, latest)
        left = self._until - max(self._last, self._until - self._period)
        spread = left * amount / self._remaining * self._caution
        return min(self._last + min(spread, self._period), latest)

    def spend(self, now: float, amount: float) -> None:
        self._remaining = max(0.0, self._remaining - amount)
        self._last = now
        self._caution = max(1.0, self._caution * _CAUTION_LOST)

    def refused(self) -> None:
        """Slow down: other processes use the same limit."""
        self._caution = min(self._caution * _CAUTION_GAINED, _MOST_CAUTION)


class _Learned:
    """The speed that refusals have shown to be possible, in calls a second.

    After a refusal calls are slower by a tenth. They get back to the speed of before in some seconds, stay
    near it, and then become faster and faster until the next refusal: a cubic curve, as in TCP.
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
        """Return the speed at a moment; infinity before the first refusal."""
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

    def refused(self, now: float, sent_at: float, retry_after: float | None, *, is_explained: bool) -> bool:
        """Pause; return whether the refusal is the first one since the last pause."""
        if self._began is None or sent_at < max(self._began, self._paused_until):
            # Sent before the last pause: it says nothing new.
            return False
        pause = retry_after if retry_after is not None else _FIRST_PAUSE * 2.0**self._pauses
        self._pauses = min(self._pauses + 1, 10)
        self._paused_until = now + min(pause, _LONGEST_PAUSE)
        if is_explained:
            return True
        seconds = self._paused_until - self._began
        # Providers count in seconds at the least: what was possible in a shorter time was saved up before.
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
