"""Forks: how many branch runs at a time, in which order results stand, and how far items are read ahead."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine import EngineSettings, ForkRun, Services, run_items
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import json_response
from tests.support.engine import INFO, World, call, compose, fork, program_of, run


class CountingClient:
    """Answers after as many turns of the event loop as the URL's last part says; counts calls in flight."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.order: list[str] = []

    async def request(self, method, url, *, headers, body, timeout) -> HttpResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        turns, index = map(int, url.rsplit("/", 2)[-2:])
        for _ in range(turns):
            await asyncio.sleep(0)
        self.now -= 1
        self.order.append(index)
        return json_response({"index": index})

    async def close(self) -> None:
        return None


def answered(turns, config, **services):
    client = CountingClient()
    steps = {
        "fan": fork(config={"dataPath": "$.data.index", **config}),
        "work": call("https://api.test/{{currentItem.turns}}/{{currentItem.index}}"),
    }
    items = [{"turns": turn, "index": index} for index, turn in enumerate(turns)]
    return run(steps, {"items": items}, http=client, **services), client


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=25), st.integers(1, 8))
def test_no_more_branch_runs_are_in_flight_than_allowed_and_results_stand_in_item_order(turns, most):
    ran, client = answered(turns, {"maxConcurrency": most})
    assert ran.outputs["fan"]["aggregatedData"] == list(range(len(turns)))
    assert client.most <= most


def test_without_a_limit_of_its_own_a_fork_keeps_to_the_settings():
    _, client = answered([3] * 20, {"maxConcurrency": 0}, settings=EngineSettings(branch_concurrency=5))
    assert client.most == 5


def test_results_stand_in_item_order_although_branch_runs_end_in_another():
    ran, client = answered([9, 5, 1], {})
    assert client.order == [2, 1, 0]
    assert ran.outputs["fan"]["aggregatedData"] == [0, 1, 2]


def test_a_limit_bounds_all_branches_of_a_step_together():
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
    assert (ran.status, len(client.order), client.most) == ("COMPLETED", 9, 2)


class Source:
    """Endless batches of eight items that remember how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 8
        return [(index, {"turns": 1, "index": index}) for index in range(self.taken - 8, self.taken)]


class EnoughError(Exception):
    pass


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_items_are_not_read_further_ahead_than_a_batch(blocking, waits):
    work = call("https://api.test/{{currentItem.turns}}/{{currentItem.index}}") if waits else compose()
    program = program_of({"fan": fork(), "work": work})
    source, done, furthest = Source(), 0, 0

    def sink(results):
        nonlocal done, furthest
        furthest = max(furthest, source.taken - done)
        done += len(results)
        if done >= 1000:
            raise EnoughError

    async def main():
        services = Services(http=CountingClient())
        forked = ForkRun(program.steps["fan"].fork, {"steps_output": {}}, INFO, services)
        await run_items(forked, source, sink, concurrency=4, blocking=blocking)

    with pytest.raises(EnoughError):
        asyncio.run(main())
    # A batch that has been read, and with waiting steps the four of the one before that are in flight.
    assert furthest <= 8 + 4 * waits


def test_an_error_of_the_items_ends_the_fork_with_that_error():
    def broken():
        yield [(0, {"turns": 1, "index": 0})]
        raise EnoughError

    program = program_of({"fan": fork(), "work": call("https://api.test/{{currentItem.turns}}/0")})

    async def main():
        forked = ForkRun(program.steps["fan"].fork, {}, INFO, Services(http=CountingClient()))
        await run_items(forked, broken(), lambda _: None)

    with pytest.raises(EnoughError):
        asyncio.run(main())


def test_whoever_listens_hears_of_every_branch_run():
    heard = []
    world = World()
    run({"fan": fork(), "work": compose()}, {"items": [1, 2]}, world=world, on_branch_result=heard.append)
    assert [(one.item_index, one.branch_id) for one in heard] == [(0, "b"), (1, "b")]
