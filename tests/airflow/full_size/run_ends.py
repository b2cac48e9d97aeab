"""All ways in which a run can end, with all six types of completion actions.

Run it with ``python -m tests.airflow.full_size.run_ends``; it prints one JSON object. PostgreSQL must be
installed. Every action of every run must have been delivered, and no action may have changed its run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from moto.server import ThreadedMotoServer

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from demo.servers import aws_connection
from tests.support.fake_lambda import running_lambda
from tests.support.run_ends import WAYS, EndedRuns, Receivers, ending_flows, open_inbox

NAME = "ends"
QUICK = {
    "scheduler": {
        "task_instance_heartbeat_timeout": "15",
        "task_instance_heartbeat_timeout_detection_interval": "2",
    }
}


def main() -> int:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    receivers = Receivers(endpoint, NAME)
    with (
        tempfile.TemporaryDirectory(prefix="allma-ends-") as folder,
        open_inbox() as inbox,
        running_lambda() as functions,
    ):
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        for flow in ending_flows(NAME, _actions(receivers, inbox.url)):
            (dags / f"{flow['id']}.json").write_text(json.dumps(flow), encoding="utf-8")
        connection = aws_connection(endpoint)
        connection["extra"]["service_config"] = {"lambda": {"endpoint_url": functions.url}}
        with AirflowInstance(
            root / "airflow",
            [dags],
            database="postgresql",
            connections={"aws_default": connection},
            config=QUICK,
        ) as instance:
            for name in (NAME, f"{NAME}-limited"):
                instance.client.wait_for_dag(name, timeout=120)
                instance.client.wait_for_dag(f"{name}.completion", timeout=120)
            began = time.monotonic()
            runs = EndedRuns(instance.client, NAME)
            actions = runs.wait_for_actions()
            logged = {
                way: "onCompletionActions[0]: {"
                in instance.client.logs(*runs.completion_run(way), "action_0")
                for way in WAYS
            }
            delays = runs.delays()
            seconds = time.monotonic() - began
        arrived = {
            "LOG_ONLY": [way for way, is_logged in logged.items() if is_logged],
            "API_CALL": [body["way"] for bodies in inbox.received.values() for body in bodies],
            "SNS_SEND": [body["way"] for bodies in receivers.published().values() for body in bodies],
            "SQS_SEND": [body["way"] for bodies in receivers.messages().values() for body in bodies],
            "CUSTOM_LAMBDA_INVOKE": [body["way"] for body in functions.payloads("done")],
            "DATA_SAVE": [body["way"] for body in receivers.saved()],
        }
    server.stop()
    report = {
        "table": {way: {kind: ways.count(way) for kind, ways in arrived.items()} for way in WAYS},
        "states": runs.states,
        "states_of_actions": actions,
        "seconds_until_actions_start_and_end": delays,
        "seconds": round(seconds, 1),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    delivered = all(count >= 1 for row in report["table"].values() for count in row.values())
    unchanged = runs.states == {way: state for way, (state, _) in WAYS.items()}
    return 0 if delivered and unchanged else 1


def _actions(receivers: Receivers, url: str) -> list[dict[str, object]]:
    return [
        {"actionType": "LOG_ONLY"},
        {"actionType": "API_CALL", "apiHttpMethod": "POST", "target": url},
        {"actionType": "SNS_SEND", "target": receivers.topic},
        {"actionType": "SQS_SEND", "target": receivers.queue},
        {"actionType": "CUSTOM_LAMBDA_INVOKE", "target": "done"},
        {
            "actionType": "DATA_SAVE",
            "moduleIdentifier": "system/s3-data-saver",
            "customConfig": {
                "destinationS3UriTemplate": f"s3://{receivers.bucket}/{{{{flowExecutionId}}}}.json",
                "contentToSave": {"way": "$.way", "status": "$.status"},
            },
        },
    ]


if __name__ == "__main__":
    sys.exit(main())
