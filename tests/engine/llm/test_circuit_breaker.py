from __future__ import annotations

import pytest

from airflow_allma.engine.llm.circuit_breaker import FAILURES, OPEN_SECONDS, WINDOW_SECONDS, CircuitBreaker


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_five_failures_in_a_minute_open_the_circuit_for_five_minutes(clock):
    breaker = CircuitBreaker(clock)
    opened = [breaker.failed("m") for _ in range(FAILURES)]
    assert opened == [False] * (FAILURES - 1) + [True]
    assert breaker.is_open("m")
    assert breaker.seconds_left("m") == OPEN_SECONDS
    clock.now += OPEN_SECONDS - 1
    assert breaker.is_open("m")
    clock.now += 1
    assert not breaker.is_open("m")
    assert breaker.seconds_left("m") == 0


def test_failures_that_are_spread_do_not_open_it(clock):
    breaker = CircuitBreaker(clock)
    for _ in range(20):
        assert not breaker.failed("m")
        clock.now += WINDOW_SECONDS / (FAILURES - 1) + 0.1
    assert not breaker.is_open("m")


def test_a_success_clears_the_failures_before_it(clock):
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURES - 1):
        breaker.failed("m")
    breaker.succeeded("m")
    assert not any(breaker.failed("m") for _ in range(FAILURES - 1))


def test_each_model_has_a_circuit_of_its_own(clock):
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURES):
        breaker.failed("m")
    assert not breaker.is_open("n")


def test_failures_of_an_open_circuit_open_it_only_once(clock):
    breaker = CircuitBreaker(clock)
    assert sum(breaker.failed("m") for _ in range(10 * FAILURES)) == 1
