"""The watcher of a queue: runs in the triggerer, and records each message as an event of the queue's asset.

Airflow's own triggers for SQS delete messages before their events are stored, and need aiobotocore. This one
uses Airflow's shared streams with acknowledgements: Airflow says which events are in its database, and only
then are the messages deleted. SQS delivers what was received and not recorded again, after the queue's
visibility timeout. So no message is lost, and one can be recorded twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

__all__ = ["QueueProducer", "QueueTrigger"]

_LOG: Final = logging.getLogger("airflow_allma.watch")

_BATCH: Final = 10
"""Messages of one call; SQS allows no more."""
_WAIT_SECONDS: Final = 20
"""How long SQS waits for a message before it answers with none."""
_MAX_IN_FLIGHT: Final = 100
"""Messages that are received and not recorded yet: a triggerer that is slow receives no more."""
_MAX_PAUSE_SECONDS: Final = 60.0


class _MessageEvent(TriggerEvent):
    """A message as an event; its text stays out of the triggerer's log."""

    def __repr__(self) -> str:
        return f"<message {self.payload['messageId']}>"

    __str__ = __repr__


class QueueTrigger(BaseEventTrigger):
    """Yields an event for each message of an SQS queue, for ever.

    Args:
        queue_url: the queue's URL.
        conn_id: the AWS connection; "" for the triggerer's own credentials.
    """

    def __init__(self, queue_url: str, conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue_url = queue_url
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"queue_url": self.queue_url, "conn_id": self.conn_id}

    def shared_stream_key(self) -> tuple[str, str, str]:
        """Return what equal watchers have in common: they share one stream."""
        return (type(self).__name__, self.queue_url, self.conn_id)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the producer of the stream, which deletes what was recorded."""
        return QueueProducer(kwargs["queue_url"], kwargs["conn_id"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each message."""
        async for message in shared_stream:
            yield _MessageEvent(payload=message)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fail: without the shared stream nobody would know when a message can be deleted.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"The watcher of {self.queue_url} needs the shared streams of Airflow 3.3.")
        yield  # pragma: no cover - makes this an iterator


class QueueProducer(SharedStreamProducer):
    """Receives the messages of a queue, and deletes those whose events are recorded.

    Errors of AWS never end the stream: they are logged, and tried again after pauses of up to a minute.

    Args:
        queue_url: the queue's URL.
        conn_id: the AWS connection; "" for the process's own credentials.
        sleep: waits for seconds; tests pass their own.
    """

    def __init__(self, queue_url: str, conn_id: str, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        from airflow_allma.engine.threads import CallThreads
        from airflow_allma.operators.airflow_services import AirflowAws

        self._queue_url = queue_url
        self._aws = AirflowAws(conn_id)
        self._threads = CallThreads()
        self._sleep = sleep
        self._in_flight = 0
        self._progress = asyncio.Event()

    async def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], dict[str, str]]]:
        """Yield each message as its event records it, and what deletes it."""
        from airflow_allma.engine.events import recorded_message

        _LOG.info("Watching %s", self._queue_url)
        while True:
            while self._in_flight > _MAX_IN_FLIGHT - _BATCH:
                self._progress.clear()
                await self._progress.wait()
            for message in await self._receive():
                self._in_flight += 1
                handle = {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}
                yield recorded_message(message), handle

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Delete the messages of a batch that are recorded; the others are delivered again."""
        self._in_flight -= len(batch)
        self._progress.set()
        recorded = {item.broker_payload["Id"]: item.broker_payload for item in batch if item.outcome.is_clean}
        if len(recorded) < len(batch):
            _LOG.warning(
                "%d messages of %s are not recorded; they will be received again",
                len(batch) - len(recorded),
                self._queue_url,
            )
        entries = list(recorded.values())
        for start in range(0, len(entries), _BATCH):
            await self._delete(entries[start : start + _BATCH])

    async def _receive(self) -> list[Mapping[str, Any]]:
        failures = 0
        while True:
            try:
                response = await self._call(
                    "receive_message",
                    MaxNumberOfMessages=_BATCH,
                    WaitTimeSeconds=_WAIT_SECONDS,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["SentTimestamp", "MessageGroupId"],
                )
            except Exception as error:  # noqa: BLE001 - the stream must not end
                failures += 1
                pause = min(_MAX_PAUSE_SECONDS, 2.0 ** (failures - 1))
                _LOG.error(
                    "%s from %s; the watcher tries again in %.0f seconds", error, self._queue_url, pause
                )
                await self._sleep(pause)
            else:
                messages: list[Mapping[str, Any]] = response.get("Messages", [])
                return messages

    async def _delete(self, entries: list[dict[str, str]]) -> None:
        try:
            response = await self._call("delete_message_batch", Entries=entries)
            failed = response.get("Failed", [])
        except Exception as error:  # noqa: BLE001 - raising would end the stream
            failed = [{"Id": entry["Id"], "Code": str(error)} for entry in entries]
        for failure in failed:
            _LOG.warning(
                "%s: message %s of %s is recorded and not deleted, and will be recorded again",
                failure.get("Code", "unknown error"),
                failure["Id"],
                self._queue_url,
            )

    async def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        return await self._threads.run(self._call_now, operation, arguments)

    def _call_now(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        from airflow_allma.common.aws_names import parse_queue_url

        # The client retries by itself, as the connection says.
        client = self._aws.client("sqs", parse_queue_url(self._queue_url).region)
        response: Mapping[str, Any] = getattr(client, operation)(QueueUrl=self._queue_url, **arguments)
        return response
