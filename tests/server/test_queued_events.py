"""Asset events that Airflow would leave without a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.airflow.flows import compose, flow
from tests.support.asset_events import AssetEvents

pytestmark = pytest.mark.airflow


@pytest.fixture
def events(session: Any) -> Iterator[AssetEvents]:
    made = watched(session)
    yield made
    # Later tests count what is late.
    made.pause(paused=True)


@pytest.fixture
def other_events(session: Any) -> Iterator[AssetEvents]:
    made = watched(session)
    yield made
    made.pause(paused=True)


def watched(session: Any) -> AssetEvents:
    name = f"late-{uuid4()}"
    steps = {"w": compose({"a": "$.b"})}
    return AssetEvents(session, flow(name, steps, airflow={"schedule": {"assets": [f"x://{name}"]}}))


def record(events, count=1):
    events.record(*({"n": number} for number in range(count)))


def scheduled(events):
    """Return how many events the run has that the scheduler makes; None without a run."""
    run = events.schedule()
    return None if run is None else len(run.consumed_asset_events)


def test_airflow_alone_leaves_all_events_of_a_burst_but_the_first_without_a_run(events):
    record(events, 10)
    assert scheduled(events) == 1
    assert scheduled(events) is None


def test_one_run_gets_all_events_that_were_queued(events):
    record(events, 10)
    assert events.sweep() == 1
    assert scheduled(events) == 10
    assert events.sweep() == 0
    assert scheduled(events) is None


def test_a_run_is_queued_for_events_that_a_run_has_left(events):
    record(events, 10)
    assert scheduled(events) == 1
    assert events.sweep() == 1
    assert scheduled(events) == 9
    assert events.sweep() == 0
    assert scheduled(events) is None


def test_a_run_is_queued_for_events_that_were_recorded_while_the_dag_was_paused(events):
    events.pause(paused=True)
    record(events, 3)
    assert events.sweep() == 0
    events.pause(paused=False)
    assert events.sweep() == 1
    assert scheduled(events) == 3


def test_a_queued_event_alone_is_left_to_the_scheduler(events):
    record(events)
    assert events.sweep() == 0
    assert scheduled(events) == 1
    assert events.sweep() == 0


def test_newer_events_of_another_asset_queue_no_further_run(events, other_events):
    record(events)
    assert scheduled(events) == 1
    record(other_events)
    assert scheduled(other_events) == 1
    assert events.sweep() == 0
    assert scheduled(events) is None


def test_the_waker_does_it_in_every_round(events, tasks):
    from airflow_allma.server.waker import Waker

    record(events, 4)
    Waker().do_round()
    assert scheduled(events) == 4
