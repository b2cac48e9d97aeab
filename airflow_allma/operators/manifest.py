"""Planning chunks of a JSON Lines object, for a fork or for any Dag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.base import FlowOperator
from airflow_allma.operators.fork_plan import chunk_concurrency, plan_chunks_of, plan_fork_chunks
from airflow_allma.operators.settings import AllmaSettings
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.operators.chunk_plan import ChunkSpec

__all__ = ["ForkChunksOperator", "S3ManifestOperator"]


class S3ManifestOperator(BaseOperator):
    """Plans chunks of a JSON Lines object and returns them for ``expand``.

    Planning reads the object's size and first bytes, and counts its lines when it is small; every chunk is
    pinned to the content of that moment. In a Dag of your own::

        chunks = S3ManifestOperator(task_id="chunks", bucket="data", key="users.jsonl").output
        work.expand(chunk=chunks)  # a task of yours; read the items with ``chunk_items(chunk)``

    gzip and JSON arrays need an ``offload_location``, to which they are written as JSON Lines first.

    Args:
        bucket: the bucket. Templated.
        key: the object's key. Templated.
        version_id: a version of it; None for the current one. Templated.
        region: the bucket's region; None for the connection's.
        aws_conn_id: the Airflow connection; None for the one of ``[allma] aws_conn_id``.
        chunk_bytes: bytes that a chunk aims at; None for ``[allma] chunk_bytes``.
        max_chunks: most chunks; None for ``[allma] max_chunks``.
        kwargs: as for any operator.

    Returns:
        A list of JSON objects, one a chunk; ``label`` names it for ``map_index_template``.
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

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plan; in the task's own process."""
        from airflow_allma.operators.services import build_services
        from airflow_allma.storage import Pointer

        settings = AllmaSettings.load().changed(
            aws_conn_id=self.aws_conn_id, chunk_bytes=self.chunk_bytes, max_chunks=self.max_chunks
        )
        ti = context["ti"]
        try:
            pointer = Pointer(self.bucket, self.key, self.version_id or None, self.region)
            services = build_services(settings, LOG)
            chunks = plan_chunks_of(pointer, services, settings, (ti.dag_id, ti.run_id, ti.task_id))
        except AllmaError as error:
            raise AirflowFailException(str(error)) from error
        return [chunk.as_dict() for chunk in chunks]


class ForkChunksOperator(FlowOperator):
    """Plans the chunks of a fork whose items are many, or lie in an object; returns ``[]`` for other forks.

    Under ``allma_plan`` it tells the chunks' tasks and the aggregate what was planned:
    ``{"chunks": [...], "items": how many, if the fork has a list, "token": ..., "concurrency": branch runs in
    flight in one chunk}``.

    Args:
        items: full id of the fork's ``items`` task.
        chunks_at_a_time: most chunks that run at a time; None: no limit of the fork's own.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.
    """

    def __init__(self, *, items: str, chunks_at_a_time: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.chunks_at_a_time = chunks_at_a_time

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plan; in the task's own process."""
        from airflow_allma.engine.errors import step_error_from

        run = TaskContext(self.flow, context)
        decided = pull(run.ti, self.items, Key.PLAN)
        if decided is None:
            raise AirflowSkipException(f"{self.items} decided nothing.")
        if decided["mode"] != "chunks":
            self.log.info("The items have map indexes of their own: there is nothing to plan")
            return []
        try:
            # Without branches nothing runs, and nothing is to be missed.
            chunks = self._plan(run, decided) if run.handle.fork(self.step).branches else []
        except AllmaError as error:
            self.fail(run, step_error_from(error).as_dict())
        push(
            run.ti,
            Key.PLAN,
            {
                "chunks": [chunk.as_dict() for chunk in chunks],
                "items": decided.get("count"),
                "token": self._token(run, chunks),
                "concurrency": chunk_concurrency(
                    run.handle.fork(self.step), len(chunks), self.chunks_at_a_time, run.settings
                ),
            },
        )
        self.log.info("%d chunks", len(chunks))
        return [chunk.as_dict() for chunk in chunks]

    def _plan(self, run: TaskContext, decided: Mapping[str, Any]) -> list[ChunkSpec]:
        return plan_fork_chunks(
            decided,
            lambda: run.fork_values(self.items, self.step),
            run.services,
            run.settings,
            (*run.info.key_ids, self.step),
        )

    def _token(self, run: TaskContext, chunks: list[ChunkSpec]) -> str:
        # Results of an earlier try count again only if they were made from the same data, and not for a run
        # of the same id that has been deleted since.
        digest = hashlib.sha256(msgspec.json.encode([chunk.as_dict() for chunk in chunks]))
        digest.update(msgspec.json.encode([run.saved_state(self.items), run.run_after]))
        return digest.hexdigest()[:16]
