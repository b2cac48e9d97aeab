"""AWS schedules: when they fire, and Airflow timetables for them.

Only ``aws_timetables`` imports Airflow; import the timetable classes from there. All other modules, and so
this package, are free of Airflow.
"""

from __future__ import annotations

from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.schedules import check_schedule, is_aws_cron, is_aws_rate, schedule_problem
from airflow_allma.timetables.start_points import (
    MAIL_RUN,
    StartPoint,
    StartPointStep,
    fired_start_point,
    run_id_suffix,
    start_points_of,
)

__all__ = [
    "MAIL_RUN",
    "AwsCron",
    "AwsRate",
    "StartPoint",
    "StartPointStep",
    "check_schedule",
    "fired_start_point",
    "is_aws_cron",
    "is_aws_rate",
    "run_id_suffix",
    "schedule_problem",
    "start_points_of",
]
