"""Planning chunks of an object with items, in any Dag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.configuration import load_settings
from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.operators.task_context import LOG

__all__ = ["S3ManifestOperator"]


class S3ManifestOperator(BaseOperator):
    """Plans chunks of an object with items, or of a prefix, and returns them for ``expand``.

    Planning reads the object's size and first bytes, and counts its items when it is small; every chunk is
    pinned to the content at that moment. In a Dag of your own::

        chunks = S3ManifestOperator(task_id="chunks", bucket="data", key="users.jsonl").output
        work.expand(chunk=chunks)  # a task of yours; read the items with ``airflow_allma.chunk_items(chunk)``

    What cannot be split as it is, such as gzip and JSON arrays, needs an ``offload_location``, to which it is
    written in a form that can.

    Args:
        bucket: the bucket. Templated.
        key: the object's key; with the format OBJECTS the prefix, which can be empty. Templated.
        version_id: a version of it; None for the current one. Templated.
        region: the bucket's region; None for the connection's.
        aws_conn_id: the Airflow connection; None for ``[allma] aws_conn_id``.
        chunk_bytes: target size of a chunk in bytes; None for ``[allma] chunk_bytes``.
        max_chunks: maximum number of chunks; None for ``[allma] max_chunks``.
        item_reader: how the items are read, as ``itemReader`` of a fork; None: what the object's name and
            beginning say.
        kwargs: as for any operator.

    Returns:
        A list of JSON objects, one per chunk; ``label`` names it for ``map_index_template``.
    """

    template_fields = ("bucket", "key", "version_id")
    ui_color = "#fff4de"

    def __init__(
        self,
        *,
        bucket: str,
        key: str,
        version_id: str | None = None,
        region: str | None = None,
        aws_conn_id: str | None = None,
        chunk_bytes: int | None = None,
        max_chunks: int | None = None,
        item_reader: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.key = key
        self.version_id = version_id
        self.region = region
        self.aws_conn_id = aws_conn_id
        self.chunk_bytes = chunk_bytes
        self.max_chunks = max_chunks
        self.item_reader = item_reader

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plan the chunks, in the task's own process."""
        from airflow_allma.distributed.chunk_plan import plan_object_chunks
        from airflow_allma.engine.readers import parse_reader
        from airflow_allma.storage import ObjectPrefix, Pointer

        settings = load_settings().changed(
            aws_conn_id=self.aws_conn_id, chunk_bytes=self.chunk_bytes, max_chunks=self.max_chunks
        )
        ti = context["ti"]
        try:
            reader = parse_reader(self.item_reader or {})
            pointer: Pointer | ObjectPrefix
            if reader.format == "OBJECTS":
                pointer = ObjectPrefix(self.bucket, self.key)
            else:
                pointer = Pointer(self.bucket, self.key, self.version_id or None, self.region)
            services = build_services(settings, LOG)
            folder = (ti.dag_id, ti.run_id, ti.task_id)
            chunks = plan_object_chunks(pointer, services, settings, folder, reader=reader)
        except AllmaError as error:
            raise AirflowFailException(str(error)) from error
        return [chunk.to_dict() for chunk in chunks]
