"""The link from the last task of a fork to the page with its items."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from airflow_allma.operators.run_urls import ItemsLink
from tests.airflow.flows import branch, compose, flow, fork

pytestmark = pytest.mark.airflow

RUN = SimpleNamespace(dag_id="d", run_id="manual__2026-03-01T00:00:00+00:00 (1)")
QUERY = "dag_id=d&run_id=manual__2026-03-01T00%3A00%3A00%2B00%3A00+%281%29&allma_fork=f"


@pytest.mark.parametrize("base", ["https://h/air/", "https://h/air", ""])
def test_it_leads_to_the_page_of_its_own_with_everything_escaped(base, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    url = ItemsLink().get_link(SimpleNamespace(step="f"), ti_key=RUN)
    assert url == f"{base.rstrip('/')}/allma/ui?{QUERY}"


def test_only_the_last_task_of_a_fork_has_it_as_it_costs_each_instance_a_request(monkeypatch):
    from airflow.serialization.serialized_objects import DagSerialization

    # Airflow's scheduler code sets it to False for the whole process.
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    dag = build_dag(Flow.model_validate(flow("links", {"f": fork(branch("w")), "w": compose()})))
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    with_link = [
        task.task_id
        for task in stored.tasks
        if "Allma items" in {link.name for link in task.operator_extra_links}
    ]
    assert with_link == ["f.aggregate"]
