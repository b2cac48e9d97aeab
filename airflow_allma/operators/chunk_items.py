"""The items of a planned chunk, for tasks of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_allma.operators.chunk_plan import ChunkSpec
from airflow_allma.operators.settings import AllmaSettings

__all__ = ["chunk_items"]


def chunk_items(
    chunk: Mapping[str, Any], *, aws_conn_id: str | None = None, offload_location: str | None = None
) -> Iterator[Any]:
    """The items of one entry of what ``S3ManifestOperator`` returned.

    Args:
        chunk: the entry.
        aws_conn_id: the Airflow connection; None for the one of ``[allma] aws_conn_id``.
        offload_location: when it differs from ``[allma] offload_location``.

    Raises:
        ObjectChangedError: the object is not the one that was planned any more.
        PermanentStepError: a line is not JSON; the message names its number and byte offset.
    """
    from airflow_allma.engine import ItemError
    from airflow_allma.engine.manifest_items import chunk_items as planned_items
    from airflow_allma.operators.services import AirflowAws, open_store

    manifest = ChunkSpec.from_dict(chunk).manifest
    if manifest is None:
        raise ValueError("This chunk is a part of a fork's list, which only the fork itself can read.")
    settings = AllmaSettings.load().changed(aws_conn_id=aws_conn_id, offload_location=offload_location)
    store = open_store(settings, AirflowAws(settings.aws_conn_id))
    for _, _, item in planned_items(store, manifest):
        if isinstance(item, ItemError):
            raise item.error
        yield item
