"""Airflow's Dags, operators and timetables, made from a plan."""

from __future__ import annotations

from airflow_allma.dag_factory.build.dag import build_dag, dag_from_plan

__all__ = ["build_dag", "dag_from_plan"]
