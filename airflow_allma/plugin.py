"""What Airflow's plugin manager finds."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

__all__ = ["AllmaPlugin"]


class AllmaPlugin(AirflowPlugin):
    """Registers what this package adds to Airflow beside its Dags."""

    name = "allma"
