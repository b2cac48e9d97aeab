"""Limits of forks: concurrent branch runs, the order of results, and how far items are read ahead."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine import EngineSettings, ForkRun, Services, run_items
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import json_response
from tests.support.engine import INFO, Fakes, call, compose, fork, program_of, run


class CountingClient:
    """Replies after the number of event loop turns at the end of the URL; counts calls in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.max_in_flight = 0
        self.order: list[str] = []

    async def request(self, method, url, *, headers, body, timeout, options=None) -> HttpResponse:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        turns, index = map(int, url.rsplit("/", 2)[-2:])
        for _ in range(turns):
            await asyncio.sleep(0)
        self.in_flight -= 1
        self.order.append(index)
        return json_response({"index": index})

    async def close(self) -> None:
        return None


def run_calls(turns, config, **services):
    client = CountingClient()
    steps = {
        "fan": fork(config={"dataPath": "$.data.index", **config}),
        "work": call("https://api.test/{{currentItem.turns}}/{{currentItem.index}}"),
    }
    items = [{"turns": turn, "index": index} for index, turn in enumerate(turns)]
    return run(steps, {"items": items}, http=client, **services), client


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=25), st.integers(1, 8))
def test_concurrent_branch_runs_are_limited_and_results_are_in_item_order(turns, max_in_flight):
    ran, client = run_calls(turns, {"maxConcurrency": max_in_flight})
    assert ran.outputs["fan"]["aggregatedData"] == list(range(len(turns)))
    assert client.max_in_flight <= max_in_flight


def test_a_fork_without_a_limit_uses_that_of_the_settings():
    _, client = run_calls([3] * 20, {"maxConcurrency": 0}, settings=EngineSettings(branch_concurrency=5))
    assert client.max_in_flight == 5


def test_results_are_in_item_order_even_if_branch_runs_end_in_another():
    ran, client = run_calls([9, 5, 1], {})
    assert client.order == [2, 1, 0]
    assert ran.outputs["fan"]["aggregatedData"] == [0, 1, 2]


def test_a_limit_applies_to_all_branches_of_a_step_together():
    client = CountingClient()
    url = "https://api.test/3/{{currentItem}}"
    steps = {
        "fan": fork(
            config={"maxConcurrency": 2},
            parallelBranches=[{"branchId": name, "stepInstanceId": name} for name in "abc"],
        ),
        **{name: call(url) for name in "abc"},
    }
    ran = run(steps, {"items": [1, 2, 3]}, http=client)
    assert (ran.status, len(client.order), client.max_in_flight) == ("COMPLETED", 9, 2)


class Source:
    """Endless batches of eight items that count how many were read."""

    def __init__(self) -> None:
        self.taken = self.furthest = 0
        self.ended = lambda: 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 8
        self.furthest = max(self.furthest, self.taken - self.ended())
        return [(index, {"turns": 1, "index": index}) for index in range(self.taken - 8, self.taken)]


class EnoughError(Exception):
    pass


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_items_are_read_at_most_one_batch_ahead(blocking, waits):
    work = call("https://api.test/{{currentItem.turns}}/{{currentItem.index}}") if waits else compose()
    program = program_of({"fan": fork(), "work": work})
    source, client, done = Source(), CountingClient(), 0
    # Results of branch runs that wait are delivered some milliseconds later.
    source.ended = lambda: len(client.order) if waits else done

    def sink(results):
        nonlocal done
        done += len(results)
        if done >= 1000:
            raise EnoughError

    async def main():
        services = Services(http=client)
        forked = ForkRun(program.steps["fan"].fork, {"steps_output": {}}, INFO, services)
        await run_items(forked, source, sink, concurrency=4, blocking=blocking)

    with pytest.raises(EnoughError):
        asyncio.run(main())
    # One batch that was read, and with waiting steps the four items in flight.
    assert source.furthest <= 8 + 4 * waits


def test_results_are_delivered_while_other_branch_runs_wait():
    program = program_of({"fan": fork(), "work": call("https://api.test/0/{{currentItem}}")})

    async def main():
        delivered = asyncio.Event()

        class Client(CountingClient):
            async def request(self, method, url, **arguments) -> HttpResponse:
                if url.endswith("/1"):
                    await asyncio.wait_for(delivered.wait(), 10)
                return await super().request(method, url, **arguments)

        services = Services(http=Client())
        forked = ForkRun(program.steps["fan"].fork, {"steps_output": {}}, INFO, services)
        batches: list[int] = []

        def sink(results):
            delivered.set()
            batches.extend(result.item_index for result in results)

        await run_items(forked, [[(0, 0), (1, 1)]], sink, concurrency=2)
        return batches

    assert asyncio.run(main()) == [0, 1]


def test_an_error_while_reading_items_fails_the_fork():
    def broken():
        yield [(0, {"turns": 1, "index": 0})]
        raise EnoughError

    program = program_of({"fan": fork(), "work": call("https://api.test/{{currentItem.turns}}/0")})

    async def main():
        forked = ForkRun(program.steps["fan"].fork, {}, INFO, Services(http=CountingClient()))
        await run_items(forked, broken(), lambda _: None)

    with pytest.raises(EnoughError):
        asyncio.run(main())


def test_the_listener_is_called_for_every_branch_run():
    received = []
    fakes = Fakes()
    run({"fan": fork(), "work": compose()}, {"items": [1, 2]}, fakes=fakes, on_branch_result=received.append)
    assert [(one.item_index, one.branch_id) for one in received] == [(0, "b"), (1, "b")]
