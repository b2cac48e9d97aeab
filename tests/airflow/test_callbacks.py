"""Callbacks that users add to the Dags of flows, and listeners, which see every Dag."""

from __future__ import annotations

import json

import pytest
from airflow.listeners import hookimpl
from airflow.sdk.listener import get_listener_manager

from airflow_allma.dag_factory import load_flows
from tests.airflow.flows import branch, compose, failing, flow, fork, route

pytestmark = pytest.mark.airflow

STEPS = {
    "f": fork(branch("w"), to="z", failOnBranchError=False),
    "w": route(("$.currentItem == 2", "bad"), to="ok"),
    "ok": compose({"n": "$.currentItem"}),
    "bad": failing(),
    "z": failing(),
}


def test_callbacks_added_by_the_loader_are_called_for_every_kind_of_task(tmp_path, run_dag):
    (tmp_path / "flow.json").write_text(json.dumps(flow("called", STEPS)))
    failed, done = [], []

    def add(dag, _):
        for task in dag.tasks:
            task.on_failure_callback = [lambda context: failed.append(name(context))]
            task.on_success_callback = [lambda context: done.append(name(context))]

    def name(context):
        return context["ti"].task_id, context["ti"].map_index

    dag = load_flows(tmp_path, on_dag=add)["called"]
    assert run_dag(dag, {"items": [1, 2]}).state == "failed"
    assert sorted(failed) == [("f.b.bad", 1), ("z", -1)]
    assert {("f.items", -1), ("f.b.w", 0), ("f.b.w", 1), ("f.b.ok", 0), ("f.aggregate", -1)} <= set(done)


class Listener:
    """A plugin's listener."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def on_task_instance_success(self, task_instance):
        self.seen.append((task_instance.task_id, "success"))

    @hookimpl
    def on_task_instance_failed(self, task_instance, error):
        self.seen.append((task_instance.task_id, str(error)))


def test_listeners_see_the_tasks_of_flows_and_why_they_failed(run):
    listener = Listener()
    manager = get_listener_manager()
    manager.add_listener(listener)
    try:
        assert run(STEPS, {"items": [1]}).state == "failed"
    finally:
        manager.pm.unregister(listener)
    seen = dict(listener.seen)
    assert seen["f.items"] == seen["f.b.w"] == seen["f.aggregate"] == "success"
    assert seen["z"].startswith("PermanentStepError: ")
