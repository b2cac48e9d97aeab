"""Threads for blocking calls: used again, as many as slots, never waited for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from airflow_allma.engine import threads
from airflow_allma.engine.threads import CallThreads


def test_calls_one_after_the_other_use_one_thread():
    async def main():
        pool = CallThreads()
        return {await pool.run(threading.get_ident) for _ in range(20)}

    assert len(asyncio.run(main())) == 1


@pytest.mark.parametrize("slots", [1, 5])
def test_no_more_calls_than_slots_run_at_once(slots):
    async def main():
        pool, running, most, used = CallThreads(slots), 0, 0, set()
        lock = threading.Lock()

        def work():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            used.add(threading.get_ident())
            with lock:
                running -= 1

        async def call():
            async with pool.slots:
                await pool.run(work)

        await asyncio.gather(*(call() for _ in range(40)))
        return most, len(used)

    assert asyncio.run(main()) == (slots, slots)


def test_results_and_errors_reach_their_own_caller():
    def divide(number):
        return 10 // number

    async def main():
        pool = CallThreads()
        return await asyncio.gather(*(pool.run(divide, n) for n in (1, 0, 5)), return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == (10, 2)
    assert isinstance(second, ZeroDivisionError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration])
def test_no_error_of_a_call_is_lost(error):
    def fail():
        raise error("x")

    async def main():
        try:
            await CallThreads().run(fail)
        except BaseException as raised:  # noqa: BLE001 - what the test is about
            return raised

    raised = asyncio.run(main())
    assert type(raised) is (RuntimeError if error is StopIteration else error)


def test_a_call_that_is_given_up_does_not_disturb_the_next_ones():
    async def main():
        pool, over = CallThreads(), threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.run(over.wait, 10)
        other = await pool.run(threading.get_ident)
        over.set()
        await asyncio.sleep(0.05)
        return other, {await pool.run(threading.get_ident) for _ in range(3)}

    other, later = asyncio.run(main())
    assert other
    assert len(later) == 1


def test_a_pool_serves_one_event_loop_after_the_other():
    pool = CallThreads()
    idents = {asyncio.run(pool.run(threading.get_ident)) for _ in range(3)}
    assert len(idents) == 1


def test_an_idle_thread_ends_and_the_next_call_gets_a_new_one(monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.01)

    def mine():
        return [thread for thread in threading.enumerate() if thread.name == "allma-call"]

    before = set(mine())

    async def main():
        pool = CallThreads()
        await pool.run(int)
        deadline = time.monotonic() + 10
        while set(mine()) - before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        return await pool.run(int, "5")

    assert asyncio.run(main()) == 5


def test_a_call_that_never_ends_does_not_keep_the_process_alive():
    source = (
        "import asyncio, threading\n"
        "from airflow_allma.engine.threads import CallThreads\n"
        "async def main():\n"
        "    try:\n"
        "        async with asyncio.timeout(0.05): await CallThreads().run(threading.Event().wait)\n"
        "    except TimeoutError: print('given up')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "given up\n"
