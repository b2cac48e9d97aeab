"""The demo's two flows: start them through Airflow's API and check their results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.airflow_client import AirflowClient, TaskInstance
from demo.servers import aws_client
from demo.stages import Stages

RUN_SECONDS = 600.0
DAG_SECONDS = 120.0


@dataclass(frozen=True)
class Walkthrough:
    """One flow of the demo."""

    dag_id: str
    fork: str
    """Step id of the flow's fork."""
    payload: Mapping[str, Any]


PRODUCTS = Walkthrough(
    "product-details",
    "process_products_in_parallel",
    {"productIds": [{"id": 101}, {"id": 102}, {"id": 103}]},
)
USERS = Walkthrough("enrich-users", "enrich_in_parallel", {"tenant": "acme"})
MANIFEST_STEP = "generate_manifest"


class WalkthroughError(RuntimeError):
    """A run failed, or its result is wrong."""


@dataclass(frozen=True)
class WalkthroughResult:
    """A successful run."""

    walkthrough: Walkthrough
    run_id: str
    tasks: Sequence[TaskInstance]
    items: Sequence[Any]
    """The fork's `aggregatedData`."""


def run_walkthrough(
    client: AirflowClient, walkthrough: Walkthrough, api_url: str, aws_url: str
) -> WalkthroughResult:
    """Run a flow on Airflow and return its fork's result.

    Raises:
        WalkthroughError: the run failed (with the logs of failed tasks), or has no result.
    """
    return finish_walkthrough(client, walkthrough, start_walkthrough(client, walkthrough, api_url), aws_url)


def start_walkthrough(client: AirflowClient, walkthrough: Walkthrough, api_url: str) -> str:
    """Wait for the flow's Dag, start a run and return its id."""
    client.wait_for_dag(walkthrough.dag_id, timeout=DAG_SECONDS)
    conf = {**walkthrough.payload, "flow_variables": {"apiBaseUrl": api_url}}
    return client.trigger(walkthrough.dag_id, conf)


def finish_walkthrough(
    client: AirflowClient, walkthrough: Walkthrough, run_id: str, aws_url: str
) -> WalkthroughResult:
    """Wait until a run is over and return its fork's result.

    Raises:
        WalkthroughError: as in `run_walkthrough`.
    """
    tasks, output = fork_output(client, walkthrough, run_id)
    return WalkthroughResult(walkthrough, run_id, tasks, _items(output, aws_url))


def fork_output(
    client: AirflowClient, walkthrough: Walkthrough, run_id: str
) -> tuple[Sequence[TaskInstance], Any]:
    """Wait until a run is over and return its tasks and the output of its fork.

    Raises:
        WalkthroughError: as in `run_walkthrough`.
    """
    state = client.wait_for_run(walkthrough.dag_id, run_id, timeout=RUN_SECONDS)
    tasks = client.task_instances(walkthrough.dag_id, run_id)
    if state != "success":
        failures = _failures(client, walkthrough, run_id, tasks)
        raise WalkthroughError(f"Run {run_id} of {walkthrough.dag_id} ended as {state}.\n{failures}")
    return tasks, client.xcom(walkthrough.dag_id, run_id, _aggregate_task(walkthrough, tasks))


def _failures(
    client: AirflowClient,
    walkthrough: Walkthrough,
    run_id: str,
    tasks: Sequence[TaskInstance],
    limit: int = 3,
) -> str:
    failed = [task for task in tasks if task.state == "failed"][:limit]
    logs = [
        f"--- log of {task.task_id}[{task.map_index}] ---\n"
        + "\n".join(client.logs(walkthrough.dag_id, run_id, task.task_id, task.map_index).splitlines()[-30:])
        for task in failed
    ]
    return "\n".join(logs)


def _aggregate_task(walkthrough: Walkthrough, tasks: Sequence[TaskInstance]) -> str:
    for task in tasks:
        if task.task_id == f"{walkthrough.fork}.aggregate":
            return task.task_id
    existing = ", ".join(sorted({task.task_id for task in tasks}))
    raise WalkthroughError(
        f"{walkthrough.dag_id} does not have a task {walkthrough.fork}.aggregate. Its tasks: {existing}."
    )


def _items(output: Any, aws_url: str) -> list[Any]:
    """Return `aggregatedData` of a fork's output, read from S3 if it was offloaded."""
    data = output.get("aggregatedData", output) if isinstance(output, dict) else output
    if isinstance(data, dict) and "_s3_output_pointer" in data:
        data = _read(data["_s3_output_pointer"], aws_url)
        data = data.get("aggregatedData", data) if isinstance(data, dict) else data
    if not isinstance(data, list):
        raise WalkthroughError(f"aggregatedData is not a list: {_short(data)}")
    return data


def _read(pointer: Mapping[str, str], aws_url: str) -> Any:
    response = aws_client("s3", aws_url).get_object(Bucket=pointer["bucket"], Key=pointer["key"])
    content = response["Body"].read().decode()
    if pointer["key"].endswith(".jsonl"):
        return [json.loads(line) for line in content.splitlines() if line]
    return json.loads(content)


def check_products(result: WalkthroughResult) -> None:
    """Check that the result has every product of the payload, in the payload's order.

    Raises:
        WalkthroughError: a product is missing, extra or out of order.
    """
    expected = [item["id"] for item in result.walkthrough.payload["productIds"]]
    _check([item["id"] for item in result.items], expected, "the payload's products")


def check_users(client: AirflowClient, result: WalkthroughResult, aws_url: str, count: int) -> None:
    """Check that the result has every user of the manifest, in the manifest's order.

    Raises:
        WalkthroughError: a user is missing, extra or out of order.
    """
    manifest = client.xcom(result.walkthrough.dag_id, result.run_id, MANIFEST_STEP)["manifest"]
    expected = [line["userId"] for line in _read(manifest["_s3_output_pointer"], aws_url)]
    if len(expected) != count:
        raise WalkthroughError(f"The manifest has {len(expected)} lines, not {count}.")
    _check([item["userId"] for item in result.items], expected, "the manifest's users")


def _check(actual: Sequence[Any], expected: Sequence[Any], description: str) -> None:
    if list(actual) != list(expected):
        raise WalkthroughError(
            f"The result is not {description} in their order: "
            f"{len(actual)} of {len(expected)}, {_short(actual)}"
        )


def print_result(stages: Stages, result: WalkthroughResult, base_url: str) -> None:
    """Print a summary of a result and the UI's addresses of its branch runs."""
    stages.detail(f"{len(result.items)} items in aggregatedData, in the order of the input:")
    shown = result.items if len(result.items) <= 4 else [*result.items[:2], None, *result.items[-2:]]
    for item in shown:
        stages.detail("  ..." if item is None else f"  {_short(item)}")
    mapped = [task for task in result.tasks if task.map_index >= 0]
    for task_id, count in Counter(task.task_id for task in mapped).items():
        labels = [task.label or str(task.map_index) for task in mapped if task.task_id == task_id]
        stages.detail(f"{count} runs of {task_id}: {', '.join(labels[:4])}{', ...' if count > 4 else ''}")
        stages.detail(f"  {run_url(base_url, result)}/tasks/{task_id}/mapped")
    stages.detail(f"the whole run: {run_url(base_url, result)}")


def run_url(base_url: str, result: WalkthroughResult) -> str:
    """Return the address of a run in Airflow's UI."""
    return f"{base_url}/dags/{result.walkthrough.dag_id}/runs/{result.run_id}"


def _short(value: Any, limit: int = 140) -> str:
    encoded = json.dumps(value, default=str)
    return encoded if len(encoded) <= limit else encoded[:limit] + " ..."
