"""A chunk whose items wait, on a real scheduler; ``full_size/waiting_chunk.py`` has 500 of them."""

from __future__ import annotations

import pytest

from tests.support.waiting_runs import CHUNK, PARKED, Sender, WaitingRun, waiting_chunk_flow

pytestmark = pytest.mark.scheduler

COUNT = 50


def test_a_killed_chunk_whose_items_wait_loses_no_event(airflow_instance, airflow_client, deploy):
    deploy(waiting_chunk_flow("waiting-chunk"))
    run = WaitingRun(airflow_client, "waiting-chunk", COUNT, "ci")
    run.start()
    parked = run.wait_for_chunk(PARKED)
    assert parked.label == f"items 0-{COUNT - 1}, {COUNT} waiting"
    sender = Sender(airflow_client.base_url, airflow_instance.user, airflow_instance.password)
    run.send_and_kill(sender.send, 8.0, [3.0])
    assert run.finish() == run.expected
    (chunk,) = [t for t in airflow_client.task_instances(run.dag_id, run.run_id) if t.task_id == CHUNK]
    assert (chunk.try_number, chunk.label) == (2, f"items 0-{COUNT - 1}")
