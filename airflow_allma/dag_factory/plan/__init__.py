"""What a flow becomes in Airflow, decided without Airflow: its tasks, schedule, params and limits."""

from __future__ import annotations

from airflow_allma.dag_factory.plan.completion_plan import CompletionPlan, plan_completion
from airflow_allma.dag_factory.plan.dag_plan import DagPlan, plan_dag
from airflow_allma.dag_factory.plan.payload_params import ParamPlan
from airflow_allma.dag_factory.plan.schedule_plan import EventPlan, ScheduleKind, SchedulePlan
from airflow_allma.dag_factory.plan.segments import GroupNode, TaskNode, TaskPlan, TaskRole, plan_tasks

__all__ = [
    "CompletionPlan",
    "DagPlan",
    "EventPlan",
    "GroupNode",
    "ParamPlan",
    "ScheduleKind",
    "SchedulePlan",
    "TaskNode",
    "TaskPlan",
    "TaskRole",
    "plan_completion",
    "plan_dag",
    "plan_tasks",
]
