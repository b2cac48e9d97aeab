"""A burst of messages that start runs of two flows, while the triggerer is restarted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from demo.airflow_client import AirflowClient
from demo.airflow_instance import AirflowInstance
from tests.airflow.flows import compose, flow

VISIBILITY_SECONDS = "5"
"""How soon a message comes again that the triggerer has received and not recorded."""
_MAX_ACTIVE = 5_000


def burst_flows(queue_url: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a flow that starts one run for each message, and one whose runs get all that have arrived."""
    watch = {"sqsQueueUrl": queue_url}
    each = {"watch": {**watch, "maxMessages": 1}, "maxActiveRuns": _MAX_ACTIVE}
    return (
        flow(f"{name}-each", {"w": compose({"n": "$.n"})}, airflow=each),
        flow(f"{name}-batch", {"w": compose({"events": "$.assetEvents"})}, airflow={"watch": watch}),
    )


class QueueBurst:
    """Sends messages and counts what they have started.

    Args:
        instance: the Airflow, with a triggerer.
        sqs: a client of the queue.
        queue_url: the queue.
        name: as for ``burst_flows``.
    """

    def __init__(self, instance: AirflowInstance, sqs: Any, queue_url: str, name: str) -> None:
        self._instance = instance
        self._sqs = sqs
        self._queue_url = queue_url
        self._each, self._batch = f"{name}-each", f"{name}-batch"
        self._client: AirflowClient = instance.client
        (self._triggerer,) = (one for one in instance.processes if one.name == "triggerer")
        self.sent: set[str] = set()
        self._seen: dict[str, list[int]] = {}

    def send(self, count: int, pause: float = 0.0) -> None:
        """Send messages with the numbers from 0 in tens, with a pause in seconds after each ten."""
        for start in range(0, count, 10):
            entries = [
                {"Id": str(number), "MessageBody": json.dumps({"n": number})}
                for number in range(start, min(start + 10, count))
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            self.sent |= {one["MessageId"] for one in answer["Successful"]}
            time.sleep(pause)

    def send_and_restart(self, count: int, pause: float, kills: tuple[bool, ...]) -> None:
        """Send messages, and meanwhile stop and start the triggerer; True kills it instead."""
        sender = threading.Thread(target=self.send, args=(count, pause))
        sender.start()
        for number, is_kill in enumerate(kills):
            share = (number + 1) / (len(kills) + 1)
            wait_until(lambda share=share: len(self.sent) >= share * count, 600, "messages are sent")
            self._triggerer.kill() if is_kill else self._triggerer.stop()
            self._triggerer.start()
        sender.join()

    def wait(self, seconds: float) -> dict[str, Any]:
        """Wait until every message has started its run, and is in a run of the other flow; return counts."""
        expected = set(range(len(self.sent)))
        # The counts say what is missing.
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: len(self.started()) >= len(self.sent) and set(self.in_batches()) >= expected,
                seconds,
                "every message has started a run",
            )
        started, batched = self.started(), self.in_batches()
        return {
            "messages": len(self.sent),
            "runs": len(started),
            "runs_right": started == {f"message__{one}" for one in self.sent},
            "batched": len(set(batched)),
            "batched_again": len(batched) - len(set(batched)),
            "batches": len(self._seen),
            "left_in_queue": self._left(),
        }

    def started(self) -> set[str]:
        """Return the ids of the runs of the flow with one run for each message."""
        runs = self._client.runs(self._each)
        return {run["dag_run_id"] for run in runs if run["run_type"] != "asset_triggered"}

    def in_batches(self) -> list[int]:
        """Return the numbers of the messages in the runs of the other flow that have ended."""
        for run in self._client.runs(self._batch):
            run_id = run["dag_run_id"]
            if run["state"] == "success" and run_id not in self._seen:
                events = self._client.xcom(self._batch, run_id, "w").get("events", [])
                self._seen[run_id] = [one["extra"]["body"]["n"] for one in events]
        return [number for numbers in self._seen.values() for number in numbers]

    def _left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {seconds:.0f} s: {what}")
        time.sleep(0.5)
