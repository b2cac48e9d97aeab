"""Steps that wait or start flows, on a real Airflow: in every place with the same result."""

from __future__ import annotations

import pytest

from tests.support import places
from tests.support.place_runs import PlaceRuns
from tests.support.waiting_runs import Sender

pytestmark = pytest.mark.scheduler

ITEMS = 6


def test_the_chain_has_the_same_result_in_every_place(airflow_client, airflow_instance, deploy):
    sender = Sender(airflow_client.base_url, airflow_instance.user, airflow_instance.password)
    with places.job_server() as (url, calls):
        for document in places.place_flows(url).values():
            deploy(document)
        runs = PlaceRuns(airflow_client, sender, "ci", ITEMS)
        runs.start()
        runs.send_events()
        results = runs.finish(240)
    assert results == {place: places.expected_results(place, ITEMS) for place in places.PLACES}
    assert set(calls.values()) == {places.CALLS_OF_A_JOB}
    # Only the steps that do not wait for the end have made runs, each of them one.
    assert len(runs.children()) == sum(len(places.numbers(place, ITEMS)) for place in places.PLACES)
