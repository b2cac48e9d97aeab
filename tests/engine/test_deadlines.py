from __future__ import annotations

import asyncio

import pytest

from airflow_allma.engine.deadlines import Deadlines


def run(work):
    async def main():
        deadlines = Deadlines(asyncio.get_running_loop())
        result = await work(deadlines)
        assert deadlines.waiting == {}
        return result

    return asyncio.run(main())


def test_a_block_that_ends_in_time_is_not_touched():
    async def work(deadlines):
        with deadlines.limit(30):
            await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert run(work) == 0


def test_a_block_that_takes_too_long_is_a_timeout_and_the_task_goes_on():
    async def work(deadlines):
        with pytest.raises(TimeoutError), deadlines.limit(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert run(work) == 0


def test_each_of_many_blocks_has_its_own_limit():
    async def work(deadlines):
        async def block(seconds):
            try:
                with deadlines.limit(seconds):
                    await asyncio.sleep(0.1)
            except TimeoutError:
                return "late"
            return "in time"

        return await asyncio.gather(*(block(seconds) for seconds in (0.01, 30, 0.02, 30)))

    assert run(work) == ["late", "in time", "late", "in time"]


def test_a_cancellation_from_outside_stays_one():
    async def work(deadlines):
        async def block():
            with deadlines.limit(30):
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)


def test_a_cancellation_from_outside_wins_over_a_limit_that_ends_at_the_same_time():
    async def work(deadlines):
        async def block():
            with deadlines.limit(0):
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        (limit,) = deadlines.waiting
        deadlines.waiting.clear()
        limit.expire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(work)


def test_an_error_of_the_block_passes_through():
    async def work(deadlines):
        with pytest.raises(KeyError), deadlines.limit(30):
            raise KeyError

    run(work)
