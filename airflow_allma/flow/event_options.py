"""What starts runs of a flow besides time: assets and a queue, in its ``airflow`` object."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from airflow_allma.flow.model_base import Bool, Int, Model, NonEmptyStr, shape

__all__ = ["AssetSchedule", "Schedule", "Watch"]


class AssetSchedule(Model):
    """Assets whose updates start runs. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    assets: Annotated[
        tuple[NonEmptyStr, ...], Field(min_length=1, description="URIs of the assets, s3://bucket/key.")
    ]
    requires_all: Annotated[
        Bool,
        Field(alias="all", description="Whether a run starts when all were updated; default: when any was."),
    ] = False


class Watch(Model):
    """An SQS queue whose messages start runs. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    sqs_queue_url: Annotated[NonEmptyStr, Field(description="URL of the queue.")]
    conn_id: Annotated[
        NonEmptyStr | None, Field(description="Airflow connection for the queue; default: awsConnId.")
    ] = None
    max_messages: Annotated[
        Int | None,
        Field(ge=1, description="1: a run for each message; otherwise a run for all that have arrived."),
    ] = None

    @property
    def is_one_each(self) -> bool:
        """Whether each message starts a run of its own."""
        return self.max_messages == _ONE


_ONE: Final = 1


def _is_schedule(value: Any) -> bool:
    return value is None or isinstance(value, str | dict | AssetSchedule)


Schedule = Annotated[
    str | AssetSchedule | None,
    shape('a string, or an object such as `{"assets": ["s3://bucket/key"]}`', _is_schedule),
]
"""A time schedule or assets."""
