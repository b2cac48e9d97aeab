"""Notifiers that flows name, called by a real Airflow's Dag processor and triggerer."""

from __future__ import annotations

import json
import time

import pytest

from tests.airflow.finished_run import FinishedRun
from tests.airflow.flows import compose, failing, flow
from tests.support.moto import REGION, EndpointClients

pytestmark = pytest.mark.scheduler

SNS = "airflow.providers.amazon.aws.notifications.sns.SnsNotifier"


def test_a_failed_run_and_a_missed_deadline_reach_a_topic(airflow_client, deploy, moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    sns, sqs = clients.client("sns", REGION), clients.client("sqs", REGION)
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def tell(message):
        arguments = {"target_arn": topic, "region_name": REGION, "message": message}
        return {"notifier": SNS, "args": arguments}

    options = {
        "notify": [{"on": ["failure"], **tell("{{event}}|{{run_id}}|{{task_id}}|{{error}}|{{url}}")}],
        "deadline": {"seconds": 1, **tell("{{event}}|{{run_id}}|{{deadline}}|{{flow_id}}|")},
    }
    # The run takes longer than the deadline.
    steps = {"wait": compose(to="bad", delay={"milliseconds": 3000, "position": "before"}), "bad": failing()}
    deploy(flow("alerts", steps, airflow=options))
    ran = FinishedRun(airflow_client, "alerts", {})
    assert ran.state == "failed"
    told = messages(sqs, queue, 2)
    _, run_id, task, error, url = told["failure"]
    assert (run_id, task) == (ran.run_id, "bad")
    assert error.startswith("PermanentStepError: ")
    assert url.endswith(f"/dags/alerts/runs/{ran.run_id.replace(':', '%3A').replace('+', '%2B')}")
    _, run_id, deadline, flow_id, _ = told["deadline"]
    assert (run_id, flow_id) == (ran.run_id, "alerts")
    assert deadline.startswith("20")


def messages(sqs, queue, count, seconds=60.0):
    """Return what was told, by event, split at the bars."""
    found, end = {}, time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < end, found
        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in received.get("Messages", ()):
            parts = json.loads(message["Body"])["Message"].split("|")
            found[parts[0]] = parts
    return found
