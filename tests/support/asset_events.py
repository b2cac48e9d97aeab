"""Asset events in the database of the Airflow in this process, and what the scheduler makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.support.airflow import store_dag


class AssetEvents:
    """The Dag of a flow that an asset starts.

    Args:
        session: a session of the database, which is committed.
        definition: the flow, or its Dag.
    """

    def __init__(self, session: Any, definition: Any) -> None:
        from airflow.models.asset import AssetModel
        from airflow.models.dag import DagModel
        from sqlalchemy import select

        self.session = session
        is_flow = isinstance(definition, Mapping)
        self.dag = build_dag(Flow.model_validate(definition)) if is_flow else definition
        self.dag_id = self.dag.dag_id
        store_dag(self.dag)
        schedule: Any = self.dag.schedule
        (asset,) = getattr(schedule, "asset_condition", schedule).objects
        self.asset = session.scalar(select(AssetModel).where(AssetModel.name == asset.name))
        self.model = session.get(DagModel, self.dag_id)
        self.pause(paused=False)

    def pause(self, *, paused: bool) -> None:
        """Pause or unpause the Dag."""
        self.model.is_paused = paused
        self.session.commit()

    def record(self, *extras: Any) -> None:
        """Record updates of the asset."""
        from airflow.assets.manager import AssetManager

        for extra in extras:
            AssetManager.register_asset_change(asset=self.asset, extra=extra, session=self.session)
            self.session.commit()

    def receive(self, *bodies: Any, **ids: Any) -> None:
        """Record messages as the watcher does; ids are ``m-1`` and so on, or the names of ``ids``."""
        named = {f"m-{number}": body for number, body in enumerate(bodies, start=1)} | ids
        self.record(
            *(
                {"from_trigger": True, "payload": {"messageId": name, "body": _text(body)}}
                for name, body in named.items()
            )
        )

    def schedule(self) -> Any:
        """Do what Airflow's scheduler does, and return the run that it makes; None without one."""
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        runs = select(DagRun).where(DagRun.dag_id == self.dag_id)
        before = {run.run_id for run in self.session.scalars(runs)}
        _, due = self.model.dags_needing_dagruns(self.session)
        if self.dag_id in due:
            runner = SchedulerJobRunner(job=Job())
            runner._create_dag_runs_asset_triggered(dag_models=[self.model], session=self.session)
            self.session.commit()
        return next((run for run in self.session.scalars(runs) if run.run_id not in before), None)

    def sweep(self) -> int:
        """Do what the waker does."""
        from airflow_allma.server.queued_events import queue_late_events

        return queue_late_events(self.session)

    def run_all(self) -> Any:
        """Make a run of all events, run it, and return its result."""
        from tests.support.existing_runs import run_existing

        self.sweep()
        run = self.schedule()
        self.session.commit()
        return run_existing(self.dag, run.run_id)


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)
