"""The watcher of a queue, with Airflow's own manager of shared streams and a moto server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any
from uuid import uuid4

import pytest
from airflow.triggers.shared_stream import SharedStreamManager
from structlog import get_logger

from airflow_allma.operators import queue_trigger
from airflow_allma.operators.queue_trigger import QueueProducer, QueueTrigger
from demo.servers import aws_connection
from tests.support.moto import EndpointClients

TRIGGER = 7


@pytest.fixture
def sqs(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_MOTO", json.dumps(aws_connection(moto_endpoint)))
    monkeypatch.setattr(queue_trigger, "_WAIT_SECONDS", 0)
    return EndpointClients(moto_endpoint).client("sqs")


@pytest.fixture
def queue(sqs: Any) -> str:
    created = sqs.create_queue(QueueName=f"q-{uuid4()}", Attributes={"VisibilityTimeout": "1"})
    return str(created["QueueUrl"])


def send(sqs, queue, count):
    for number in range(count):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"n": number}))


def left(sqs, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


class Triggerer:
    """What Airflow's triggerer does with a trigger: take its events, store them, confirm them."""

    def __init__(self, queue: str, **options: Any) -> None:
        self.trigger = QueueTrigger(queue, "aws_moto")
        self.key = self.trigger.shared_stream_key()
        self.manager = SharedStreamManager(log=get_logger(), **options)
        self.stored: list[dict[str, Any]] = []
        self.unconfirmed: list[int] = []

    async def run(self, stores: bool = True) -> None:
        stream = self.manager.subscribe(trigger_id=TRIGGER, trigger=self.trigger, key=self.key)
        async for event in self.trigger.filter_shared_stream(stream):
            seq = self.manager.bind_pending_event(trigger_id=TRIGGER, key=self.key)
            assert seq is not None
            self.stored.append(event.payload)
            self.unconfirmed.append(seq)
            if stores:
                await asyncio.sleep(0)
                self.manager.confirm_persisted([self.unconfirmed.pop()])

    @contextlib.asynccontextmanager
    async def running(self, stores: bool = True):
        task = asyncio.create_task(self.run(stores))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.manager.unsubscribe(TRIGGER, self.key)


async def until(holds, seconds=20):
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - it waits for another server
            await asyncio.sleep(0.02)


def test_each_message_is_an_event_and_is_deleted_when_the_event_is_stored(sqs, queue):
    send(sqs, queue, 35)
    triggerer = Triggerer(queue)

    async def scenario() -> None:
        async with triggerer.running():
            await until(lambda: left(sqs, queue) == 0)

    asyncio.run(scenario())
    assert sorted(json.loads(one["body"])["n"] for one in triggerer.stored) == list(range(35))
    assert len({one["messageId"] for one in triggerer.stored}) == 35


def test_messages_whose_events_are_not_stored_are_delivered_again(sqs, queue):
    send(sqs, queue, 5)
    lost, next_one = Triggerer(queue), Triggerer(queue)

    async def scenario() -> None:
        async with lost.running(stores=False):
            await until(lambda: len(lost.stored) >= 5)
        assert left(sqs, queue) == 5
        async with next_one.running():
            await until(lambda: left(sqs, queue) == 0)

    asyncio.run(scenario())
    assert {one["messageId"] for one in next_one.stored} == {one["messageId"] for one in lost.stored}


def test_no_more_messages_are_received_than_can_be_stored(sqs, queue, monkeypatch):
    monkeypatch.setattr(queue_trigger, "_MAX_IN_FLIGHT", 20)
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "60"})
    send(sqs, queue, 50)
    triggerer = Triggerer(queue)

    async def scenario() -> None:
        async with triggerer.running(stores=False):
            await until(lambda: len(triggerer.stored) == 20)
            await asyncio.sleep(0.1)
            assert len(triggerer.stored) == 20

    asyncio.run(scenario())


def test_an_error_of_aws_is_logged_and_tried_again(sqs, queue, monkeypatch, caplog):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            monkeypatch.setenv("AIRFLOW_CONN_AWS_MOTO", connection)

    connection = json.dumps(aws_connection("http://127.0.0.1:1"))
    monkeypatch.delenv("AIRFLOW_CONN_AWS_MOTO")
    producer = QueueProducer(queue, "aws_moto", sleep)

    async def scenario() -> None:
        receiving = asyncio.create_task(anext(producer.open_stream()))
        await until(lambda: len(pauses) >= 3)
        receiving.cancel()

    with caplog.at_level(logging.ERROR, "airflow_allma.watch"):
        asyncio.run(scenario())
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert "Airflow connection 'aws_moto' does not exist" in caplog.text
    assert f"from {queue}; the watcher tries again in 1 seconds" in caplog.text


def test_a_message_that_cannot_be_deleted_does_not_end_the_stream(sqs, queue, caplog):
    from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

    producer = QueueProducer(queue, "aws_moto")
    item = AdvanceItem({"Id": "m-1", "ReceiptHandle": "nonsense"}, AdvanceOutcome(acked=1, failed=0))
    with caplog.at_level(logging.WARNING, "airflow_allma.watch"):
        asyncio.run(producer.advance([item]))
    assert "message m-1" in caplog.text
    assert "will be recorded again" in caplog.text


def test_the_text_of_a_message_stays_out_of_the_log_of_the_triggerer(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="s3cret")
    trigger = QueueTrigger(queue, "aws_moto")

    async def stream():
        yield {"messageId": "m-1", "body": "s3cret"}

    async def scenario():
        return await anext(trigger.filter_shared_stream(stream()))

    event = asyncio.run(scenario())
    assert repr(event) == str(event) == "<message m-1>"
    assert event.model_dump() == {"payload": {"messageId": "m-1", "body": "s3cret"}}


def test_equal_watchers_are_equal_for_airflow():
    one, two = QueueTrigger("https://q/1/a", ""), QueueTrigger("https://q/1/a", "")
    assert one.hash(*one.serialize()) == two.hash(*two.serialize())
    assert one.shared_stream_key() == two.shared_stream_key()
    path, kwargs = one.serialize()
    assert path == "airflow_allma.operators.queue_trigger.QueueTrigger"
    assert QueueTrigger(**kwargs).serialize() == one.serialize()


def test_without_a_shared_stream_a_watcher_fails():
    async def scenario() -> None:
        async for _ in QueueTrigger("https://q/1/a", "").run():
            pass

    with pytest.raises(RuntimeError, match="shared streams"):
        asyncio.run(scenario())
