"""The checks of schedules: a flow's ``airflow.schedule`` and its schedule start points."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from airflow_allma.common.nearest import nearest
from airflow_allma.exceptions import ExpressionError, ExpressionSyntaxError
from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.start_points import render_expression
from airflow_allma.timetables.unix_cron import PRESETS, check_unix_cron

__all__ = ["check_schedule", "is_aws_cron", "is_aws_rate", "schedule_problem"]

_ANY_ZONE: Final = ZoneInfo("UTC")
_ANY_START: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def is_aws_cron(schedule: str) -> bool:
    """Return whether a schedule has the form of AWS's cron(...)."""
    return schedule.lstrip().startswith("cron(")


def is_aws_rate(schedule: str) -> bool:
    """Return whether a schedule has the form of AWS's rate(...)."""
    return schedule.lstrip().startswith("rate(")


def check_schedule(schedule: str) -> None:
    """Check an AWS expression, a cron expression with five fields, or a preset.

    Raises:
        ExpressionSyntaxError: it is none of these, or not valid.
    """
    if is_aws_cron(schedule):
        AwsCron.parse(schedule, _ANY_ZONE)
    elif is_aws_rate(schedule):
        AwsRate.parse(schedule, _ANY_START)
    elif schedule.strip().startswith("@"):
        _check_preset(schedule.strip())
    else:
        check_unix_cron(schedule)


def schedule_problem(schedule: str, flow_variables: Mapping[str, Any] | None = None) -> str | None:
    """Return what is wrong with a schedule and how to fix it, as one sentence; None if it is valid.

    Args:
        schedule: the schedule.
        flow_variables: for the schedule of a start point. It can be a template over these variables, and must
            be an AWS expression.
    """
    try:
        if flow_variables is None:
            check_schedule(schedule)
        else:
            _check_start_point(schedule, flow_variables)
    except ExpressionSyntaxError as error:
        return error.reason
    return None


def _check_start_point(schedule: str, flow_variables: Mapping[str, Any]) -> None:
    try:
        expression = render_expression(schedule, flow_variables)
    except ExpressionSyntaxError:
        return  # reported where all templates are checked
    except ExpressionError as error:
        raise ExpressionSyntaxError(f"the template cannot be rendered: {error}", schedule) from error
    if is_aws_cron(expression) or is_aws_rate(expression):
        check_schedule(expression)
        return
    raise ExpressionSyntaxError(
        f"`{expression[:60]}` is not an AWS schedule; write cron(0 6 * * ? *) or rate(6 hours)", schedule
    )


def _check_preset(preset: str) -> None:
    if preset in PRESETS:
        return
    known = sorted(PRESETS)
    near = nearest(preset, known)
    raise ExpressionSyntaxError(f"unknown preset; write {near or 'one of ' + ', '.join(known)}", preset)
