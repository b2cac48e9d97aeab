"""Every way in which a run can end, on a real Airflow, and the receivers of what its actions send."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil

from demo.airflow_client import AirflowClient
from tests.support.moto import EndpointClients

Json = dict[str, Any]

WAYS: Mapping[str, tuple[str, str]] = {
    "completed": ("success", "COMPLETED"),
    "failed task": ("failed", "FAILED"),
    "run timeout": ("failed", "TIMED_OUT"),
    "task marked": ("failed", "CANCELLED"),
    "run marked": ("failed", "CANCELLED"),
    "worker killed": ("failed", "FAILED"),
}
"""How a run ends -> its state in Airflow, and what ``$.status`` is."""

ID = "Idempotency-Key"
_SLOW = ("run timeout", "task marked", "run marked", "worker killed")
_TIMEOUT_SECONDS = 10


class Inbox(ThreadingHTTPServer):
    """An API that keeps the bodies that are posted to it.

    Attributes:
        received: id of the action -> the bodies that came with it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _InboxHandler)
        self.received: dict[str, list[Json]] = defaultdict(list)
        self.url = f"http://127.0.0.1:{self.server_port}/done"


class _InboxHandler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received[self.headers[ID]].append(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def open_inbox() -> Iterator[Inbox]:
    """Run an inbox on a free loopback port."""
    with Inbox() as inbox:
        threading.Thread(target=inbox.serve_forever, daemon=True).start()
        yield inbox
        inbox.shutdown()


def ending_flows(name: str, actions: list[Json]) -> list[Json]:
    """Return two flows whose runs end as their payload says: the second one has a time limit."""
    steps = {
        "first": {
            "stepType": "NO_OP",
            "checkpoint": {"id": "begun", "label": "Begun"},
            "transitions": [{"condition": f"$.way == '{way}'", "nextStepInstanceId": "slow"} for way in _SLOW]
            + [{"condition": "$.way == 'failed task'", "nextStepInstanceId": "bad"}],
        },
        "slow": {"stepType": "NO_OP", "delay": {"milliseconds": 170_000, "position": "before"}},
        "bad": {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/s3-data-loader",
            "customConfig": {"sourceS3Uri": "nonsense"},
        },
    }
    payload = {
        "way": "$.way",
        "status": "$.status",
        "error": "$.errorInfo.errorName",
        "data": "$.steps_output",
    }
    flow = {
        "id": name,
        "startStepInstanceId": "first",
        "steps": steps,
        "onCompletionActions": [
            {"executeOnStatus": "ANY", "payloadTemplate": payload, **action} for action in actions
        ],
        "airflow": {"lostTaskRetries": 0},
    }
    limited = {**flow, "id": f"{name}-limited"}
    limited["airflow"] = {"lostTaskRetries": 0, "runTimeoutSeconds": _TIMEOUT_SECONDS}
    return [flow, limited]


class EndedRuns:
    """One run for each way to end; the constructor starts them, and they end.

    Attributes:
        states: way -> the state in which Airflow has the run.
    """

    def __init__(self, client: AirflowClient, name: str) -> None:
        self.client, self.name = client, name
        self._dag_ids = {way: f"{name}-limited" if way == "run timeout" else name for way in WAYS}
        self._runs = {way: client.trigger(self._dag_ids[way], {"way": way}) for way in WAYS}
        for way in ("worker killed", "task marked", "run marked"):
            getattr(self, f"_end_{way.replace(' ', '_')}")(name, self._runs[way])
        self.states = {
            way: client.wait_for_run(self._dag_ids[way], run_id, 150.0) for way, run_id in self._runs.items()
        }

    def _running(self, dag_id: str, run_id: str) -> psutil.Process:
        return psutil.Process(self.client.wait_for_task(dag_id, run_id, "slow", states=["running"]).pid)

    def _end_worker_killed(self, dag_id: str, run_id: str) -> None:
        process = self._running(dag_id, run_id)
        # The supervisor first, or it would report the end of the task.
        os.kill(process.ppid(), signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)

    def _end_task_marked(self, dag_id: str, run_id: str) -> None:
        self._running(dag_id, run_id)
        self.client.set_state(dag_id, run_id, "slow", "failed")

    def _end_run_marked(self, dag_id: str, run_id: str) -> None:
        self._running(dag_id, run_id)
        self.client.call("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", body={"state": "failed"})

    def note(self, way: str) -> str:
        """Return the note of a run."""
        return str(self.client.run(self._dag_ids[way], self._runs[way])["note"])

    def completion_run(self, way: str) -> tuple[str, str]:
        """Return Dag id and run id of the run with the actions."""
        return f"{self._dag_ids[way]}.completion", f"end_0__{self._runs[way]}"

    def wait_for_actions(self, seconds: float = 120.0) -> dict[str, str]:
        """Return, way by way, the state in which the run with the actions ended."""
        deadline = time.monotonic() + seconds
        while True:
            known = {
                run["dag_run_id"]
                for dag_id in {self.completion_run(way)[0] for way in WAYS}
                for run in self.client.runs(dag_id)
            }
            if all(self.completion_run(way)[1] in known for way in WAYS):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"completion runs: {sorted(known)}")
            time.sleep(0.2)
        return {way: self.client.wait_for_run(*self.completion_run(way), seconds) for way in WAYS}

    def delays(self) -> dict[str, tuple[float, float]]:
        """Return, way by way, the seconds from the end of the run to the start and the end of its actions."""
        found = {}
        for way, run_id in self._runs.items():
            ended = _seconds(self.client.run(self._dag_ids[way], run_id)["end_date"])
            actions = self.client.run(*self.completion_run(way))
            found[way] = (
                round(_seconds(actions["queued_at"]) - ended, 1),
                round(_seconds(actions["end_date"]) - ended, 1),
            )
        return found


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


class Receivers:
    """Queue, topic and bucket in the local AWS, and what has arrived in them.

    Args:
        endpoint: the URL of the moto server.
        name: begins the names of all.
    """

    def __init__(self, endpoint: str, name: str) -> None:
        clients = EndpointClients(endpoint)
        self.sqs, self.s3, self.bucket = clients.client("sqs"), clients.client("s3"), f"{name}-ends"
        self.queue = self.sqs.create_queue(QueueName=f"{name}-queue")["QueueUrl"]
        self._subscribed = self.sqs.create_queue(QueueName=f"{name}-topic")["QueueUrl"]
        sns = clients.client("sns")
        self.topic = sns.create_topic(Name=name)["TopicArn"]
        sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=self._arn(self._subscribed),
            Attributes={"RawMessageDelivery": "true"},
        )
        location = {"LocationConstraint": "eu-central-1"}
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=location)

    def _arn(self, url: str) -> str:
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn: str = attributes["Attributes"]["QueueArn"]
        return arn

    def messages(self) -> dict[str, list[Json]]:
        """Return the messages of the queue by the id of their action; they are received once."""
        return self._received(self.queue)

    def published(self) -> dict[str, list[Json]]:
        """Return the messages of the topic, as ``messages``."""
        return self._received(self._subscribed)

    def _received(self, url: str) -> dict[str, list[Json]]:
        found: dict[str, list[Json]] = defaultdict(list)
        while got := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
        ).get("Messages"):
            for one in got:
                found[one["MessageAttributes"][ID]["StringValue"]].append(json.loads(one["Body"]))
        return found

    def saved(self) -> list[Json]:
        """Return the objects of the bucket."""
        keys = [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        return [json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()) for key in keys]
