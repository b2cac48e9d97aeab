from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from airflow_allma.engine.llm.pace import Allowance
from airflow_allma.engine.llm.rate_limiter import RateLimiter
from tests.support.model_steps import answer


def test_event_loops_of_several_threads_share_a_limit():
    limiter = RateLimiter(Allowance(requests_per_minute=3_000))
    sent = []

    async def one_call():
        sent.append(await limiter.wait(1))
        await asyncio.sleep(0)
        limiter.accepted(answer(), 1)

    async def ten_calls():
        await asyncio.gather(*(one_call() for _ in range(10)))

    with ThreadPoolExecutor(2) as threads:
        for ended in [threads.submit(asyncio.run, ten_calls()) for _ in range(2)]:
            ended.result()
    moments = sorted(sent)
    assert len(moments) == 20
    assert all(later - earlier > 0.015 for earlier, later in pairwise(moments))


def test_a_call_that_is_cancelled_while_it_waits_does_not_hold_up_others():
    async def main():
        limiter = RateLimiter(Allowance())
        in_flight = [await limiter.wait(1) for _ in range(8)]
        waiting = [asyncio.create_task(limiter.wait(1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        waiting[1].cancel()
        for _ in in_flight:
            limiter.failed()
        return await asyncio.wait_for(waiting[2], 10)

    assert asyncio.run(main()) > 0
