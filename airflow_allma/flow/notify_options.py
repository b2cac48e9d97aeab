"""What a flow tells people about its runs: notifications and a deadline, in its ``airflow`` object."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from airflow_allma.flow.model_base import JsonObject, Model, NonEmptyStr, Number

__all__ = ["Deadline", "DeadlineStart", "Notification", "NotifyEvent"]


class NotifyEvent(StrEnum):
    """What happened."""

    FAILURE = "failure"
    """A run has failed."""
    SUCCESS = "success"
    """A run has succeeded."""
    RETRY = "retry"
    """A try of a task has failed, and Airflow runs the task again."""


class DeadlineStart(StrEnum):
    """The moment from which a deadline counts."""

    QUEUED = "queued"
    LOGICAL_DATE = "logicalDate"


_NOTIFIER = Annotated[
    NonEmptyStr, Field(description="Import path of a notifier class that [allma] notifiers allows.")
]
_ARGS = Annotated[
    JsonObject,
    Field(
        default_factory=dict,
        description="Arguments of the notifier; strings are templates over the facts of the run.",
    ),
]


class Notification(Model):
    """A notifier that is called after some events. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    on: Annotated[tuple[NotifyEvent, ...], Field(min_length=1, description="After which events.")]
    notifier: _NOTIFIER
    args: _ARGS


class Deadline(Model):
    """A notifier that is called if a run has not ended in time. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    seconds: Annotated[Number, Field(gt=0, description="Seconds until a run must have ended.")]
    start: Annotated[
        DeadlineStart, Field(alias="from", description="From when the seconds count: queued or logicalDate.")
    ] = DeadlineStart.QUEUED
    notifier: _NOTIFIER
    args: _ARGS
