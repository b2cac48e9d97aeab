"""Steps that wait or start flows in every place, with a chunk of 1,000 items, on a real Airflow.

Run it with ``python -m tests.airflow.full_size.places [ITEMS]``; it prints one JSON object. PostgreSQL must
be installed. The results of all places, and of the command line, must be equal.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_allma.storage import LocalStore, Pointer, load_content
from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from tests.support import places
from tests.support.place_runs import PlaceRuns
from tests.support.waiting_runs import Sender


def loaded(found: Any) -> Any:
    """Return a result, also if it is in the store because of its size."""
    pointer = Pointer.parse(found)
    return found if pointer is None else load_content(LocalStore("/"), pointer)


def main(items: int) -> int:
    with tempfile.TemporaryDirectory(prefix="allma-places-") as folder, places.job_server() as (url, calls):
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        for flow_id, document in places.place_flows(url).items():
            # One chunk, which is parked for the keys of all items when the events are sent.
            document.setdefault("airflow", {}).update(offloadLocation=(root / "store").as_uri(), maxChunks=1)
            (dags / f"{flow_id}.json").write_text(json.dumps(document), encoding="utf-8")
        with AirflowInstance(
            root / "airflow", [dags], database="postgresql", parallelism=6, triggerer=True
        ) as instance:
            client = instance.client
            for flow_id in places.place_flows(url):
                client.wait_for_dag(flow_id, timeout=120)
            sender = Sender(client.base_url, instance.user, instance.password)
            runs = PlaceRuns(client, sender, "full", items)
            began = time.monotonic()
            runs.start()
            runs.wait_for_chunk(1800)
            parked = time.monotonic() - began
            runs.send_events()
            sent = time.monotonic() - began
            results = {place: loaded(found) for place, found in runs.finish(5400).items()}
            ended = time.monotonic() - began
            children = len(runs.children())
    report = {
        "items": items,
        "equal": {place: results[place] == places.expected_results(place, items) for place in places.PLACES},
        "calls_of_jobs": dict(Counter(calls.values())),
        "runs_of_the_child": children,
        "expected_runs": sum(len(places.numbers(place, items)) for place in places.PLACES),
        "chunk_parked_after_seconds": round(parked, 1),
        "events_sent_after_seconds": round(sent, 1),
        "ended_after_seconds": round(ended, 1),
        "answers": sender.answers,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if all(report["equal"].values()) and children == report["expected_runs"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
