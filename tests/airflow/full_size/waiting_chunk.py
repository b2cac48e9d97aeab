"""A chunk of 500 items that wait; events come in random order over two minutes; its worker is killed twice.

Run it with ``python -m tests.airflow.full_size.waiting_chunk``; it prints one JSON object. PostgreSQL must be
installed. Each item must have its own result, once, and no event may be lost.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from tests.support.waiting_runs import CHUNK, Sender, WaitingRun, waiting_chunk_flow

COUNT = 500
SECONDS = 120.0
KILL_AT = [30.0, 75.0]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="allma-waiting-") as folder:
        root = Path(folder)
        dags, store = root / "dags", root / "store"
        dags.mkdir()
        write_loader(dags)
        flow = waiting_chunk_flow("waiting", offloadLocation=store.as_uri(), lostTaskRetries=5)
        (dags / "waiting.json").write_text(json.dumps(flow), encoding="utf-8")
        config = {"allma": {"output_offload_bytes": str(1 << 24)}}
        with AirflowInstance(
            root / "airflow", [dags], database="postgresql", parallelism=4, config=config
        ) as instance:
            client = instance.client
            client.wait_for_dag("waiting", timeout=120)
            run = WaitingRun(client, "waiting", COUNT, "full")
            parked_after = run.start()
            sender = Sender(client.base_url, instance.user, instance.password)
            began = time.monotonic()
            run.send_and_kill(sender.send, SECONDS, KILL_AT)
            sent_after = time.monotonic() - began
            data = run.finish(600)
            ended_after = time.monotonic() - began
            tries = next(t for t in client.task_instances("waiting", run.run_id) if t.task_id == CHUNK)
            log = client.logs("waiting", run.run_id, CHUNK, 0) if data != run.expected else ""
            parked_objects = len(list(store.rglob("parked/*.jsonl")))
            stored = Counter(
                json.loads(line)["item"] for part in store.rglob("parts/*.jsonl") for line in part.open()
            )
    report = {
        "items": COUNT,
        "right": data == run.expected,
        "stored_once": sum(count == 1 for count in stored.values()),
        "stored_again": sum(count > 1 for count in stored.values()),
        "tries": tries.try_number,
        "parked_after_seconds": round(parked_after, 1),
        "events_sent_after_seconds": round(sent_after, 1),
        "ended_after_seconds": round(ended_after, 1),
        "answers": sender.answers,
        "parked_objects": parked_objects,
        "state": tries.state,
    }
    if log:
        wrong = [pair for pair in zip(data, run.expected, strict=False) if pair[0] != pair[1]]
        sys.stdout.write(f"{log[-20_000:]}\n{wrong[:5]}\n")
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["right"] and report["tries"] > len(KILL_AT) else 1


if __name__ == "__main__":
    sys.exit(main())
