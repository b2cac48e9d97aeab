"""The pace of calls, simulated: processes with 64 calls in flight, and a provider with a rate limit."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import pytest

from airflow_allma.engine.llm.model_request import RateLimit, RateLimits
from airflow_allma.engine.llm.pace import Allowance, Pace

ANSWER_SECONDS = 0.05


@dataclass
class Bucket:
    """A provider that allows `rate` calls a second, and `size` at once."""

    rate: float = 100.0
    size: float = 100.0
    reports: bool = False
    tokens: float = 100.0
    at: float = 0.0

    def take(self, now):
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False, max(0.01, (1 - self.tokens) / self.rate), self.limits()
        self.tokens -= 1
        return True, None, self.limits()

    def limits(self):
        if not self.reports:
            return RateLimits()
        return RateLimits(RateLimit(int(self.size), int(self.tokens), (self.size - self.tokens) / self.rate))


@dataclass
class Window:
    """A provider that allows `size` calls in each whole second."""

    size: int = 100
    reports: bool = False
    second: int = -1
    used: int = 0

    def take(self, now):
        if int(now) != self.second:
            self.second, self.used = int(now), 0
        reset = self.second + 1 - now
        if self.used >= self.size:
            return False, reset, self.limits(reset)
        self.used += 1
        return True, None, self.limits(reset)

    def limits(self, reset):
        if not self.reports:
            return RateLimits()
        return RateLimits(RateLimit(self.size, self.size - self.used, reset))


class Unlimited:
    def take(self, now):
        del now
        return True, None, RateLimits()


def simulate(provider, *, calls, processes=1, concurrency=64, allowance=None):
    """Return the seconds that all calls take, and how many were rate limited."""
    clock = [0.0]
    paces = [Pace(allowance or Allowance(), lambda: clock[0]) for _ in range(processes)]
    waiting = [calls // processes] * processes
    busy = [0] * processes
    wakes = [float("inf")] * processes
    events, order = [], itertools.count()
    refused = done = 0

    def start(number):
        while waiting[number] and busy[number] < concurrency:
            seconds = paces[number].seconds_until_free(10)
            if seconds == float("inf"):
                return
            if seconds:
                at = clock[0] + min(seconds, 1.0)
                if at < wakes[number]:
                    wakes[number] = at
                    heapq.heappush(events, (at, next(order), "wake", number, None))
                return
            waiting[number] -= 1
            busy[number] += 1
            sent_at = paces[number].sent(10)
            heapq.heappush(events, (clock[0] + ANSWER_SECONDS / 2, next(order), "arrive", number, sent_at))

    for number in range(processes):
        start(number)
    while events:
        clock[0], _, kind, number, data = heapq.heappop(events)
        if kind == "arrive":
            accepted, retry_after, limits = provider.take(clock[0])
            event = ("answer", number, (accepted, retry_after, limits, data))
            heapq.heappush(events, (clock[0] + ANSWER_SECONDS / 2, next(order), *event))
            continue
        if kind == "wake":
            if clock[0] != wakes[number]:
                continue
            wakes[number] = float("inf")
        if kind == "answer":
            accepted, retry_after, limits, sent_at = data
            busy[number] -= 1
            if accepted:
                done += 1
                paces[number].accepted(limits, 10, 10)
            else:
                refused += 1
                waiting[number] += 1
                paces[number].rate_limited(sent_at, retry_after, limits)
        start(number)
    assert done == calls // processes * processes
    return clock[0], refused


@pytest.mark.parametrize(
    ("provider", "processes", "most_time", "most_refused"),
    [
        (Bucket(), 1, 1.05, 0.015),
        (Bucket(), 2, 1.05, 0.02),
        (Bucket(), 4, 1.15, 0.03),
        (Bucket(reports=True), 1, 1.05, 0),
        (Bucket(reports=True), 2, 1.05, 0),
        (Bucket(reports=True), 4, 1.05, 0),
        (Window(), 1, 1.1, 0.02),
        (Window(), 2, 1.15, 0.02),
        (Window(), 4, 1.3, 0.03),
        (Window(reports=True), 1, 1.1, 0),
        (Window(reports=True), 2, 1.1, 0.001),
        (Window(reports=True), 4, 1.1, 0.015),
        # Hardly anything is saved up for a burst: what was possible in the first second says little.
        (Bucket(size=20, tokens=20), 1, 1.3, 0.01),
        (Bucket(size=20, tokens=20), 2, 1.6, 0.02),
        (Bucket(size=20, tokens=20, reports=True), 1, 1.05, 0),
        (Bucket(size=20, tokens=20, reports=True), 2, 1.05, 0),
    ],
    ids=str,
)
def test_calls_reach_an_unknown_limit_and_hardly_exceed_it(provider, processes, most_time, most_refused):
    calls = 3_000
    seconds, refused = simulate(provider, calls=calls, processes=processes)
    assert seconds <= most_time * (calls - provider.size) / 100
    assert refused <= most_refused * calls


def test_a_configured_limit_is_never_exceeded():
    seconds, refused = simulate(Window(), calls=3_000, allowance=Allowance(6_000))
    assert refused == 0
    assert seconds <= 1.05 * 30


def test_configured_tokens_are_spent_evenly():
    # 10 tokens a call, 60,000 in a minute: 100 calls a second.
    seconds, refused = simulate(Window(), calls=1_000, allowance=Allowance(None, 60_000))
    assert refused == 0
    assert seconds <= 1.05 * 10


def test_calls_without_a_limit_are_not_delayed():
    seconds, _ = simulate(Unlimited(), calls=10_000)
    assert seconds <= 1.05 * 10_000 * ANSWER_SECONDS / 64


def test_overestimated_tokens_are_credited():
    now = [0.0]
    pace = Pace(Allowance(None, 60), lambda: now[0])
    pace.sent(600)
    assert pace.seconds_until_free(1) > 600
    pace.accepted(RateLimits(), 600, 0)
    assert pace.seconds_until_free(1) == 0


def test_pauses_grow_if_the_provider_does_not_say_how_long_to_wait():
    now = [0.0]
    pace = Pace(Allowance(), lambda: now[0])
    pauses = []
    for _ in range(4):
        sent_at = pace.sent(1)
        now[0] += 0.01
        pace.rate_limited(sent_at, None, RateLimits())
        pauses.append(pace.seconds_until_free(1))
        now[0] += pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 4 * pauses[0]


@pytest.mark.parametrize(
    "limit", [RateLimit(10, 0, 86_400.0), RateLimit(10, 5, 86_400.0), RateLimit(10, 0, 1e40)]
)
@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_a_reported_limit_does_not_hold_up_calls_for_hours(kind, limit):
    pace = Pace(Allowance(), lambda: 1_000.0)
    pace.sent(10)
    pace.accepted(RateLimits(**{kind: limit}), 10, 10)
    assert 50 < pace.seconds_until_free(10) <= 60
