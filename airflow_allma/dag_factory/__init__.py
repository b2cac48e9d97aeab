"""Flows as Airflow Dags: how steps become tasks, and the Dags that are built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.dag_factory.factory import build_dag
    from airflow_allma.dag_factory.loader import load_flows

__all__ = ["build_dag", "load_flows"]


def __getattr__(name: str) -> Any:
    # The command line draws plans without Airflow: nothing of it is imported before a Dag is wanted.
    if name == "load_flows":
        from airflow_allma.dag_factory.loader import load_flows

        return load_flows
    if name == "build_dag":
        from airflow_allma.dag_factory.factory import build_dag

        return build_dag
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
