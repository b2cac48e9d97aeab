"""AWS's schedules: when they fire, and as timetables of Airflow's.

The calculation knows no Airflow, and so does this module: import the timetables from ``aws_timetables``.
"""

from __future__ import annotations

from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.schedules import check_schedule, is_aws_cron, is_aws_rate, schedule_problem
from airflow_allma.timetables.start_points import StartPoint, fired_start_point, start_points_of

__all__ = [
    "AwsCron",
    "AwsRate",
    "StartPoint",
    "check_schedule",
    "fired_start_point",
    "is_aws_cron",
    "is_aws_rate",
    "schedule_problem",
    "start_points_of",
]
