"""What Airflow's plugin manager finds."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_allma.timetables.aws_timetables import AwsCronTimetable, AwsRateTimetable

__all__ = ["AllmaPlugin"]


class AllmaPlugin(AirflowPlugin):
    """Registers what this package adds to Airflow beside its Dags."""

    name = "allma"
    timetables = [AwsCronTimetable, AwsRateTimetable]  # noqa: RUF012 - Airflow's own way of saying it
