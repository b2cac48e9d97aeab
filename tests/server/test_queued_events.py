"""Asset events that Airflow would leave without a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.airflow.flows import compose, flow

pytestmark = pytest.mark.airflow


class Events:
    """A flow that an asset starts, in the database, and what scheduler and tasks would do with it."""

    def __init__(self, session: Any) -> None:
        from airflow.models.asset import AssetModel
        from airflow.models.dag import DagModel
        from sqlalchemy import select

        from tests.support.airflow import store_dag

        self.session = session
        self.dag_id = f"late-{uuid4()}"
        uri = f"x://{self.dag_id}"
        definition = flow(self.dag_id, {"w": compose({"a": "$.b"})}, airflow={"schedule": {"assets": [uri]}})
        store_dag(build_dag(Flow.model_validate(definition)))
        self.asset = session.scalar(select(AssetModel).where(AssetModel.name == uri))
        self.dag = session.get(DagModel, self.dag_id)
        self.pause(paused=False)

    def pause(self, *, paused: bool) -> None:
        self.dag.is_paused = paused
        self.session.commit()

    def record(self, count: int = 1) -> None:
        """Record updates of the asset."""
        from airflow.assets.manager import AssetManager

        for number in range(count):
            AssetManager.register_asset_change(asset=self.asset, extra={"n": number}, session=self.session)
            self.session.commit()

    def schedule(self) -> int | None:
        """Do what Airflow's scheduler does, and return how many events its run got; None without a run."""
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        before = set(self.session.scalars(select(DagRun.run_id).where(DagRun.dag_id == self.dag_id)))
        _, due = self.dag.dags_needing_dagruns(self.session)
        if self.dag_id in due:
            runner = SchedulerJobRunner(job=Job())
            runner._create_dag_runs_asset_triggered(dag_models=[self.dag], session=self.session)
            self.session.commit()
        runs = self.session.scalars(select(DagRun).where(DagRun.dag_id == self.dag_id)).all()
        new = [run for run in runs if run.run_id not in before]
        return len(new[0].consumed_asset_events) if new else None

    def sweep(self) -> int:
        from airflow_allma.server.queued_events import queue_late_events

        return queue_late_events(self.session)


@pytest.fixture
def events(session: Any) -> Iterator[Events]:
    made = Events(session)
    yield made
    # Later tests count what is late.
    made.pause(paused=True)


def test_airflow_alone_leaves_all_events_of_a_burst_but_the_first_without_a_run(events):
    events.record(10)
    assert events.schedule() == 1
    assert events.schedule() is None


def test_one_run_gets_all_events_that_were_queued(events):
    events.record(10)
    assert events.sweep() == 1
    assert events.schedule() == 10
    assert events.sweep() == 0
    assert events.schedule() is None


def test_a_run_is_queued_for_events_that_a_run_has_left(events):
    events.record(10)
    assert events.schedule() == 1
    assert events.sweep() == 1
    assert events.schedule() == 9
    assert events.sweep() == 0
    assert events.schedule() is None


def test_a_run_is_queued_for_events_that_were_recorded_while_the_dag_was_paused(events):
    events.pause(paused=True)
    events.record(3)
    assert events.sweep() == 0
    events.pause(paused=False)
    assert events.sweep() == 1
    assert events.schedule() == 3


def test_a_queued_event_alone_is_left_to_the_scheduler(events):
    events.record()
    assert events.sweep() == 0
    assert events.schedule() == 1
    assert events.sweep() == 0


def test_the_waker_does_it_in_every_round(events, tasks):
    from airflow_allma.server.waker import Waker

    events.record(4)
    Waker().do_round()
    assert events.schedule() == 4
