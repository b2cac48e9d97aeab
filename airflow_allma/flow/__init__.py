"""The flow language: its models, and how flow files are found, read and checked."""

from __future__ import annotations

from airflow_allma.flow.models import (
    AirflowOptions,
    BranchGranularity,
    CompletionAction,
    CompletionActionType,
    DefaultStepConfig,
    ExecuteOnStatus,
    Flow,
)
from airflow_allma.flow.steps import *  # noqa: F403
