"""Steps that wait or start flows, on the command line: in every place with the same result."""

from __future__ import annotations

import json

import pytest

from tests.support import places
from tests.support.cli import run_cli, write_file

ITEMS = 5


@pytest.mark.parametrize("place", places.PLACES)
def test_the_chain_has_the_same_result_in_every_place(tmp_path, place):
    with places.job_server() as (url, calls):
        flows = places.place_flows(url)
        for flow_id, document in flows.items():
            write_file(tmp_path, f"{flow_id}.json", document)
        events = [
            part
            for key, payload in places.keys(place, "cli", ITEMS).items()
            for part in ("--event", f"{key}={json.dumps(payload)}")
        ]
        chunks = ["--chunks"] if place == "chunk" else []
        payload = json.dumps(places.payload(place, "cli", ITEMS))
        ran = run_cli("run", tmp_path / f"place_{place}.json", "--payload", payload, *chunks, *events)
    assert ran.code == 0, ran.err + ran.out
    outputs = ran.json["context"]["steps_output"]
    returned = outputs[places.result_task(place).partition(".")[0]]
    assert places.result_of(place, returned) == places.expected_results(place, ITEMS)
    assert set(calls.values()) == {places.CALLS_OF_A_JOB}
