"""Flows as Airflow Dags: the loader reads flow files, ``plan`` plans each Dag, ``build`` builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.dag_factory.build import build_dag
    from airflow_allma.dag_factory.loader import load_flows, report_problems

__all__ = ["build_dag", "load_flows", "report_problems"]


def __getattr__(name: str) -> Any:
    # The command line draws plans without Airflow: it is imported only when a Dag is built.
    if name in {"load_flows", "report_problems"}:
        from airflow_allma.dag_factory import loader

        return getattr(loader, name)
    if name == "build_dag":
        from airflow_allma.dag_factory.build import build_dag

        return build_dag
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
