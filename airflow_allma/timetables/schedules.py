"""What ``airflow.schedule`` of a flow and its schedule start points may say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from airflow_allma.common.nearest import nearest
from airflow_allma.exceptions import ExpressionError, ExpressionSyntaxError
from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
from airflow_allma.timetables.start_points import rendered_expression
from airflow_allma.timetables.unix_cron import PRESETS, check_unix_cron

__all__ = ["check_schedule", "is_aws_cron", "is_aws_rate", "schedule_problem"]

_ANY_ZONE: Final = ZoneInfo("UTC")
_ANY_START: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def is_aws_cron(text: str) -> bool:
    """Whether a text wants to be AWS's cron(...)."""
    return text.lstrip().startswith("cron(")


def is_aws_rate(text: str) -> bool:
    """Whether a text wants to be AWS's rate(...)."""
    return text.lstrip().startswith("rate(")


def check_schedule(text: str) -> None:
    """Check an expression of AWS's, a cron expression with five fields, or a preset.

    Raises:
        ExpressionSyntaxError: it is none of these.
    """
    if is_aws_cron(text):
        AwsCron.parse(text, _ANY_ZONE)
    elif is_aws_rate(text):
        AwsRate.parse(text, _ANY_START)
    elif text.strip().startswith("@"):
        _check_preset(text.strip())
    else:
        check_unix_cron(text)


def schedule_problem(text: str, flow_variables: Mapping[str, Any] | None = None) -> str | None:
    """What is wrong with a schedule and how to mend it, one sentence; None: nothing is.

    Args:
        text: the schedule.
        flow_variables: for a start point's: it may be a template over them, and says only what AWS knows.
    """
    try:
        if flow_variables is None:
            check_schedule(text)
        else:
            _check_start_point(text, flow_variables)
    except ExpressionSyntaxError as error:
        return error.reason
    return None


def _check_start_point(text: str, flow_variables: Mapping[str, Any]) -> None:
    try:
        expression = rendered_expression(text, flow_variables)
    except ExpressionSyntaxError:
        return  # as with any template, told where templates are checked
    except ExpressionError as error:
        raise ExpressionSyntaxError(f"the template cannot be rendered: {error}", text) from error
    if is_aws_cron(expression) or is_aws_rate(expression):
        check_schedule(expression)
        return
    raise ExpressionSyntaxError(
        f"`{expression[:60]}` is no schedule of AWS's; write cron(0 6 * * ? *) or rate(6 hours)", text
    )


def _check_preset(text: str) -> None:
    if text in PRESETS:
        return
    known = sorted(PRESETS)
    near = nearest(text, known)
    raise ExpressionSyntaxError(f"no such preset; write {near or 'one of ' + ', '.join(known)}", text)
