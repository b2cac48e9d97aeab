"""Slow requests wait for each other, never for Airflow's threads, and are refused when they are many."""

from __future__ import annotations

import asyncio
import gc
import threading

import httpx
import pytest

from airflow_allma.server.work_pool import BusyError, SlotLimit, WorkPool

pytestmark = pytest.mark.airflow


def test_the_result_of_work_and_its_errors_are_passed_on():
    async def main():
        pool = WorkPool("test", 1, 60)
        assert await pool.run(lambda: 7) == 7
        with pytest.raises(TimeoutError, match="own"):
            await pool.run(raising(TimeoutError("own")))

    asyncio.run(main())


def raising(error):
    def work():
        raise error

    return work


def test_work_that_takes_too_long_is_answered_and_goes_on():
    async def main():
        pool, go = WorkPool("test", 1, 60), threading.Event()
        with pytest.raises(BusyError, match=r"more than 0\.01 seconds"):
            await pool.run(go.wait, seconds=0.01)
        # What waits for its thread is dropped when its time is over.
        with pytest.raises(BusyError):
            await pool.run(raising(AssertionError), seconds=0.01)
        go.set()
        assert await pool.run(lambda: 7) == 7

    asyncio.run(main())


def test_too_many_requests_are_refused_and_all_slots_come_back():
    async def main():
        pool, go = WorkPool("test", 1, 60), threading.Event()
        running = [asyncio.ensure_future(pool.run(go.wait)) for _ in range(100)]
        while not any(one.done() for one in running):  # noqa: ASYNC110 - whichever is first
            await asyncio.sleep(0)
        refused = [one for one in running if one.done()]
        assert all(isinstance(one.exception(), BusyError) for one in refused)
        go.set()
        done = await asyncio.gather(*running, return_exceptions=True)
        assert sum(isinstance(one, BusyError) for one in done) == 35
        assert await pool.run(lambda: 7) == 7

    asyncio.run(main())


def test_a_slot_is_free_again_after_it_was_used():
    limit = SlotLimit(1, "full")
    release = limit.take()
    with pytest.raises(BusyError, match="full"):
        limit.take()
    release()
    with limit.slot(), pytest.raises(BusyError):
        limit.take()
    limit.take()


def test_sixty_slow_requests_leave_airflows_own_routes_alone(sign_in, monkeypatch):
    from fastapi import FastAPI

    from airflow_allma.server.api_context import ApiContext
    from airflow_allma.server.web_app import create_app

    go, begun = threading.Event(), threading.Semaphore(0)

    def stuck(*args, **kwargs):
        begun.release()
        go.wait(60)
        return {"isFlow": False}

    async def slow_answer(self, dag_id, run_id, fork, question):
        return await self.store.run(stuck)

    monkeypatch.setattr(ApiContext, "answer", slow_answer)
    airflow = FastAPI()

    @airflow.get("/version")
    def version() -> str:
        # As most of Airflow's routes, it takes one of the 40 threads that all of them share.
        return "3"

    airflow.mount("/allma", create_app())
    headers = sign_in("viewer")

    async def main():
        transport = httpx.ASGITransport(airflow)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            slow = [
                asyncio.ensure_future(
                    client.get(f"/allma/api/dags/d/runs/r/forks/{number}", headers=headers, timeout=60)
                )
                for number in range(60)
            ]
            while not begun.acquire(blocking=False):  # noqa: ASYNC110 - a thread releases it
                await asyncio.sleep(0.01)
            for _ in range(5):
                assert (await client.get("/version")).json() == "3"
            assert not any(one.done() for one in slow)
            # The lists of flows and runs do not wait for stores either.
            assert (await client.get("/allma/api/flows", headers=headers)).status_code == 200
            assert not any(one.done() for one in slow)
            go.set()
            assert {answer.status_code for answer in await asyncio.gather(*slow)} == {200}

    try:
        asyncio.run(main())
    finally:
        go.set()


def test_too_many_downloads_are_503_and_an_abandoned_one_gives_its_slot_back():
    from airflow_allma.server.api_context import ApiContext

    async def main():
        api = ApiContext()

        def blocks():
            yield b"a\n"
            yield b"b\n"

        open_ones = [await api.stream(blocks()) for _ in range(4)]
        with pytest.raises(BusyError, match="4 downloads"):
            await api.stream(blocks())
        assert b"".join([block async for block in open_ones.pop()]) == b"a\nb\n"
        # Of one the client has gone after the first block, of another before.
        assert await anext(open_ones[0]) == b"a\n"
        open_ones.clear()
        gc.collect()
        again = [await api.stream(blocks()) for _ in range(4)]
        assert len(again) == 4

    asyncio.run(main())
