"""What ``airflow.schedule`` of a flow may say."""

from __future__ import annotations

import datetime as dt
import difflib
from typing import Final
from zoneinfo import ZoneInfo

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.timetables.aws_cron import AwsCron
from airflow_allma.timetables.aws_rate import AwsRate
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


def schedule_problem(text: str) -> str | None:
    """What is wrong with a schedule and how to mend it, one sentence; None: nothing is."""
    try:
        check_schedule(text)
    except ExpressionSyntaxError as error:
        return error.reason
    return None


def _check_preset(text: str) -> None:
    if text in PRESETS:
        return
    known = sorted(PRESETS)
    near = difflib.get_close_matches(text[:60], known, n=1)
    raise ExpressionSyntaxError(
        f"no such preset; write {near[0] if near else 'one of ' + ', '.join(known)}", text
    )
