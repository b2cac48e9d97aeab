"""Slots behave as a fair semaphore, whatever is cancelled when."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine.request_slots import RequestSlots


def test_a_slot_is_handed_over_in_the_order_of_asking() -> None:
    async def main() -> list[int]:
        slots, order = RequestSlots(1), []

        async def work(number: int) -> None:
            async with slots.held():
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(number) for number in range(5)))
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_nobody_overtakes_who_got_a_slot_and_has_not_run_yet() -> None:
    async def main() -> bool:
        slots = RequestSlots(1)
        assert slots.take()
        waiting = asyncio.create_task(slots.wait())
        await asyncio.sleep(0)
        slots.release()
        overtakes = slots.take()
        await waiting
        return overtakes

    assert not asyncio.run(main())


def test_a_slot_is_not_lost_when_its_receiver_is_cancelled_at_the_same_time() -> None:
    async def main() -> bool:
        slots = RequestSlots(1)
        assert slots.take()
        waiting = asyncio.create_task(slots.wait())
        await asyncio.sleep(0)
        slots.release()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return slots.take()

    assert asyncio.run(main())


@settings(deadline=None)
@given(
    limit=st.integers(1, 3),
    works=st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 8)), max_size=15),
)
def test_the_limit_holds_and_every_slot_comes_back(limit: int, works: list[tuple[int, int | None]]) -> None:
    async def main() -> tuple[int, list[bool]]:
        slots, in_flight, most = RequestSlots(limit), 0, 0

        async def work(turns: int) -> None:
            nonlocal in_flight, most
            async with slots.held():
                in_flight += 1
                most = max(most, in_flight)
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    in_flight -= 1

        async def cancel(task: asyncio.Task[Any], turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()

        tasks = [asyncio.create_task(work(turns)) for turns, _ in works]
        ends = [after for _, after in works]
        cancels = [
            asyncio.create_task(cancel(task, after))
            for task, after in zip(tasks, ends, strict=True)
            if after is not None
        ]
        await asyncio.wait_for(asyncio.gather(*tasks, *cancels, return_exceptions=True), 10)
        return most, [slots.take() for _ in range(limit + 1)]

    most, taken = asyncio.run(main())
    assert most <= limit
    assert taken == [True] * limit + [False]
