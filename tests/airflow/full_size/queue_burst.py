"""1,000 messages start runs of two flows, while the triggerer is stopped once and killed twice.

Run it with ``python -m tests.airflow.full_size.queue_burst``; it prints one JSON object. PostgreSQL must be
installed. Each message must start its own run of one flow, once, and be in a run of the other flow.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from demo.servers import aws_client, aws_connection, aws_server
from tests.support.queue_bursts import VISIBILITY_SECONDS, QueueBurst, burst_flows


def main(count: int) -> int:
    with tempfile.TemporaryDirectory(prefix="allma-burst-") as folder:
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        with aws_server(root) as aws:
            sqs = aws_client("sqs", aws.url)
            options = {"VisibilityTimeout": VISIBILITY_SECONDS}
            url = sqs.create_queue(QueueName="burst", Attributes=options)["QueueUrl"]
            for one in burst_flows(url, "burst"):
                (dags / f"{one['id']}.json").write_text(json.dumps(one), encoding="utf-8")
            with AirflowInstance(
                root / "airflow",
                [dags],
                database="postgresql",
                parallelism=4,
                connections={"aws_default": aws_connection(aws.url)},
                triggerer=True,
            ) as instance:
                for one in burst_flows(url, "burst"):
                    instance.client.wait_for_dag(one["id"], timeout=120)
                burst = QueueBurst(instance, sqs, url, "burst")
                began = time.monotonic()
                burst.send_and_restart(count, 0.3, kills=(True, False, True))
                sent = time.monotonic() - began
                counts = burst.wait(900)
                ended = time.monotonic() - began
    report = {**counts, "sent_after_seconds": round(sent, 1), "started_after_seconds": round(ended, 1)}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if counts["runs_right"] and counts["batched"] == count else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
