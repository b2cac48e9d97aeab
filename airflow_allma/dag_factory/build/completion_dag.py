"""A planned completion Dag as Airflow's Dag."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from airflow.sdk import DAG

from airflow_allma.compat import database_is_sqlite
from airflow_allma.dag_factory.plan.completion_plan import CompletionPlan
from airflow_allma.operators.completion_action import CompletionActionOperator
from airflow_allma.operators.flow_ref import FlowRef

__all__ = ["completion_dag"]

_MAX_ACTIVE_RUNS: Final = 100
"""Many runs can end at once, and each has a run here for some seconds."""

_MAX_ACTIVE_RUNS_ON_SQLITE: Final = 2

_RETRIES: Final = {
    "retries": 5,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 3.0,
    "max_retry_delay": timedelta(minutes=10),
}


def completion_dag(plan: CompletionPlan) -> DAG:
    """Build a planned completion Dag. Equal plans have equal Dags."""
    with DAG(
        dag_id=plan.dag_id,
        dag_display_name=plan.display_name,
        doc_md=plan.doc_md,
        schedule=None,
        catchup=False,
        tags=set(plan.tags),
        default_args={**plan.task_defaults, **_RETRIES},
        max_active_runs=_MAX_ACTIVE_RUNS_ON_SQLITE if database_is_sqlite() else _MAX_ACTIVE_RUNS,
        is_paused_upon_creation=False,
        auto_register=False,
    ) as dag:
        flow = FlowRef(plan.dag.flow)
        for action in plan.actions:
            CompletionActionOperator(
                task_id=action.task_id,
                task_display_name=action.label,
                flow=flow,
                action=action.index,
                tasks=plan.tasks,
            )
    return dag
