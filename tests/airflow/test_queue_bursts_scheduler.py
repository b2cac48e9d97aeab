"""Messages that start runs, on a real Airflow whose triggerer is restarted."""

from __future__ import annotations

import pytest

from tests.support.moto import EndpointClients
from tests.support.queue_bursts import VISIBILITY_SECONDS, QueueBurst, burst_flows

pytestmark = [pytest.mark.scheduler, pytest.mark.slow]

COUNT = 50


def test_no_message_of_a_burst_is_lost_while_the_triggerer_is_restarted(
    airflow_instance, deploy, moto_endpoint
):
    sqs = EndpointClients(moto_endpoint).client("sqs")
    options = {"VisibilityTimeout": VISIBILITY_SECONDS}
    url = sqs.create_queue(QueueName="burst", Attributes=options)["QueueUrl"]
    burst = QueueBurst(airflow_instance, sqs, url, "burst")
    for one in burst_flows(url, "burst"):
        deploy(one)
    try:
        burst.send_and_restart(COUNT, 0.1, kills=(True,))
        counts = burst.wait(120)
    finally:
        for one in burst_flows(url, "burst"):
            airflow_instance.client.call("PATCH", f"dags/{one['id']}", body={"is_paused": True})
    assert counts["runs_right"]
    assert (counts["runs"], counts["batched"], counts["left_in_queue"]) == (COUNT, COUNT, 0)
