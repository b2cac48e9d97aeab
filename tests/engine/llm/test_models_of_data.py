"""Model ids that come from data: what is kept for each model is bounded."""

from __future__ import annotations

import asyncio
import gc

import pytest

from airflow_allma.engine.llm.circuit_breaker import FAILURES, MAX_CLOSED, OPEN_SECONDS, CircuitBreaker
from airflow_allma.engine.llm.model_request import ModelName, RateLimitedError, TokenUsage
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.llm.pace import Allowance
from airflow_allma.engine.llm.rate_limiters import MAX_IDLE, RateLimiters
from airflow_allma.engine.llm.token_account import MAX_MODELS, OTHER_MODELS, TokenAccount
from airflow_allma.flow.steps.llm import LlmProvider
from tests.support.engine import fork, run
from tests.support.model_steps import FakeModels, model_step


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def named(number):
    return ModelName(LlmProvider.OPENAI, f"model-{number}")


def use_many(limiters, first=0, count=2 * MAX_IDLE):
    for number in range(first, first + count):
        limiters.get(named(number), None)


def test_limiters_that_are_used_least_are_dropped():
    limiters = RateLimiters(lambda _: Allowance())
    ids = set()
    for number in range(2 * MAX_IDLE):
        ids.add(id(limiters.get(named(0), None)))
        limiters.get(named(number), None)
    assert len(limiters) == MAX_IDLE
    assert len(ids) == 1


def test_a_limiter_whose_call_is_in_flight_is_not_replaced():
    async def main():
        limiters = RateLimiters(lambda _: Allowance())
        used = limiters.get(named(0), None)
        await used.wait(1)
        use_many(limiters, 1)
        gc.collect()
        assert limiters.get(named(0), None) is used

    asyncio.run(main())


def pause(limiter, sent_at):
    limiter.rate_limited(RateLimitedError("429", retry_after=60.0), sent_at)


@pytest.mark.parametrize(
    ("allowance", "end"),
    [(Allowance(), pause), (Allowance(requests_per_minute=1), lambda limiter, _: limiter.failed())],
    ids=["after a 429", "by a configured limit"],
)
def test_a_limiter_that_holds_calls_back_is_kept_until_it_allows_them(allowance, end):
    clock = Clock()

    async def main():
        limiters = RateLimiters(lambda _: allowance, clock=clock)
        for number in range(MAX_IDLE):
            limiter = limiters.get(named(number), None)
            end(limiter, await limiter.wait(1))
        use_many(limiters, MAX_IDLE, 50)
        for number in range(MAX_IDLE):
            assert limiters.get(named(number), None).is_holding
        clock.now += 200.0
        use_many(limiters, 2 * MAX_IDLE, MAX_IDLE)
        assert len(limiters) == MAX_IDLE

    asyncio.run(main())


def test_circuits_that_are_closed_are_bounded():
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for number in range(3 * MAX_CLOSED):
        breaker.failed(number)
    assert len(breaker) == MAX_CLOSED
    # The newest failures still count.
    assert [breaker.failed(3 * MAX_CLOSED - 1) for _ in range(FAILURES - 1)][-1]


def test_open_circuits_are_kept_until_they_close():
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for number in range(2 * MAX_CLOSED):
        for _ in range(FAILURES):
            breaker.failed(number)
    for number in range(2 * MAX_CLOSED, 4 * MAX_CLOSED):
        breaker.failed(number)
    assert all(breaker.is_open(number) for number in range(2 * MAX_CLOSED))
    clock.now += OPEN_SECONDS
    breaker.failed("m")
    assert len(breaker) == MAX_CLOSED


def test_tokens_of_more_models_are_added_up_together():
    account = TokenAccount()
    for number in range(MAX_MODELS + 10):
        account.count(f"OPENAI/{number}", TokenUsage(1, 2), None)
    account.count("OPENAI/0", TokenUsage(1, 2), None)
    totals = TokenAccount.sum_of(account.to_dict(), account.to_dict()).to_dict()
    assert len(totals) == MAX_MODELS + 1
    assert totals[OTHER_MODELS] == {"calls": 20, "inputTokens": 20, "outputTokens": 40}
    assert totals["OPENAI/0"]["calls"] == 4


def test_a_fork_whose_items_name_a_model_each_keeps_a_bounded_number(monkeypatch):
    monkeypatch.setattr("airflow_allma.engine.llm.rate_limiters.MAX_IDLE", 20)
    models = FakeModels()
    services: ModelServices = models.services(llm_prices='{"*": {"inputPerMillion": 1}}')
    steps = {"all": fork("ask", config={"maxConcurrency": 5}), "ask": model_step(modelId="m-{{currentItem}}")}
    ended = run(steps, {"items": list(range(100))}, models=services)
    assert ended.status == "COMPLETED", ended.error
    assert len(set(models.asked)) == 100
    assert len(services.limiters) <= 20
