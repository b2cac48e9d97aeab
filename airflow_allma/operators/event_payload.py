"""The asset events of a run, as its payload has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow_allma.flow.event_rules import QUEUE_SCHEME
from airflow_allma.operators.task_context import LOG

if TYPE_CHECKING:
    from airflow_allma.engine.events import QueueMessage

__all__ = ["ASSET_TRIGGERED", "asset_events", "queue_messages"]

ASSET_TRIGGERED: Final = "asset_triggered"
"""Airflow's type of the runs that assets start."""


def asset_events(dag_run: Any) -> list[dict[str, Any]]:
    """Return the events that started a run, the oldest first: ``uri``, ``extra``, ``source``, ``timestamp``.

    ``source`` is the task that updated the asset, or None. The ``extra`` of a queue's message is that of
    ``QueueMessage.extra``; a message that was delivered twice counts once.

    Args:
        dag_run: the Dag run in the context of a task.
    """
    messages = {id(event): message for event, message in _messages(dag_run)}
    return [
        {
            "uri": event.asset.uri,
            "extra": messages[id(event)].extra if id(event) in messages else dict(event.extra),
            "source": _source(event),
            "timestamp": event.timestamp.isoformat(),
        }
        for event in _sorted(dag_run)
        if id(event) in messages or not _is_message(event)
    ]


def queue_messages(dag_run: Any) -> list[QueueMessage]:
    """Return the messages that started a run, the oldest first, each once."""
    return [message for _, message in _messages(dag_run)]


def _messages(dag_run: Any) -> Iterator[tuple[Any, QueueMessage]]:
    from airflow_allma.engine.events import QueueMessage, is_test_of_s3

    seen: set[str] = set()
    for event in _sorted(dag_run):
        if not _is_message(event):
            continue
        message = QueueMessage.of(event.extra["payload"])
        if is_test_of_s3(message.body):
            LOG.info("Message %s is the test that S3 sends once; it is ignored", message.message_id)
        elif message.message_id not in seen:
            seen.add(message.message_id)
            yield event, message


def _sorted(dag_run: Any) -> list[Any]:
    if dag_run.run_type != ASSET_TRIGGERED:
        return []
    return sorted(dag_run.consumed_asset_events or (), key=lambda event: event.timestamp)


def _is_message(event: Any) -> bool:
    """Return whether our watcher has recorded an event; anybody with the right to can record others."""
    payload = event.extra.get("payload")
    return (
        urlsplit(event.asset.uri).scheme == QUEUE_SCHEME
        and isinstance(payload, Mapping)
        and isinstance(payload.get("messageId"), str)
        and isinstance(payload.get("body"), str)
    )


def _source(event: Any) -> dict[str, Any] | None:
    if event.source_dag_id is None:
        return None
    return {
        "dagId": event.source_dag_id,
        "runId": event.source_run_id,
        "taskId": event.source_task_id,
        "mapIndex": event.source_map_index,
    }
