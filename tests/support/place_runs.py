"""Runs of the flows of ``places`` on a real Airflow: started at once, resumed, and compared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.airflow_client import AirflowClient
from tests.support import places
from tests.support.waiting_runs import PARKED, Sender


@dataclass
class PlaceRuns:
    """One run of each flow.

    Attributes:
        client: a client of the Airflow.
        sender: sends the events.
        tag: begins the keys of the events.
        items: how many items the chunk has.
        run_ids: place -> run id.
    """

    client: AirflowClient
    sender: Sender
    tag: str
    items: int
    run_ids: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start all runs."""
        self.run_ids = {
            place: self.client.trigger(f"place_{place}", places.payload(place, self.tag, self.items))
            for place in places.PLACES
        }

    def wait_for_chunk(self, timeout: float) -> None:
        """Wait until the chunk is parked for all of its keys."""
        run = ("place_chunk", self.run_ids["chunk"])
        self.client.wait_for_task(*run, "f.chunk", 0, states=(PARKED,), timeout=timeout)

    def send_events(self) -> None:
        """Send each event, also those for which nothing waits yet: they are kept."""
        for place in places.PLACES:
            for key, payload in places.keys(place, self.tag, self.items).items():
                self.sender.send(key, payload)

    def finish(self, timeout: float) -> dict[str, Any]:
        """Wait until all runs are over, and return the result of each place."""
        end = time.monotonic() + timeout
        results = {}
        for place, run_id in self.run_ids.items():
            dag_id = f"place_{place}"
            state = self.client.wait_for_run(dag_id, run_id, max(1.0, end - time.monotonic()))
            assert state == "success", f"{dag_id} ended {state}"
            returned = self.client.xcom(dag_id, run_id, places.result_task(place))
            results[place] = places.result_of(place, returned)
        return results

    def children(self) -> list[dict[str, Any]]:
        """Return the runs of the child, which the steps that only start it have made."""
        runs: list[dict[str, Any]] = list(self.client.runs(places.CHILD))
        return runs
