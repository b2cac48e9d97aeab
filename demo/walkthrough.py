"""The demo's two flows: started through Airflow's API, and their results looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.airflow_client import AirflowClient, TaskContext
from demo.servers import aws_client
from demo.stages import Stages

RUN_SECONDS = 600.0
DAG_SECONDS = 120.0


@dataclass(frozen=True)
class Walk:
    """One flow of the demo."""

    dag_id: str
    fork: str
    """Step id of its fork."""
    payload: Mapping[str, Any]


PRODUCTS = Walk(
    "product-details",
    "process_products_in_parallel",
    {"productIds": [{"id": 101}, {"id": 102}, {"id": 103}]},
)
USERS = Walk("enrich-users", "enrich_in_parallel", {"tenant": "acme"})
MANIFEST_STEP = "generate_manifest"


class WalkError(RuntimeError):
    """A run failed, or its result is not what the demo promises."""


@dataclass(frozen=True)
class WalkResult:
    """A run that went well."""

    walk: Walk
    run_id: str
    tasks: Sequence[TaskContext]
    items: Sequence[Any]
    """The fork's `aggregatedData`."""


def run_walk(client: AirflowClient, walk: Walk, api_url: str, aws_url: str) -> WalkResult:
    """Run a flow through Airflow and read its fork's result.

    Raises:
        WalkError: the run failed (with the failed tasks' logs), or there is no result.
    """
    return end_walk(client, walk, begin_walk(client, walk, api_url), aws_url)


def begin_walk(client: AirflowClient, walk: Walk, api_url: str) -> str:
    """Start a run of a flow as soon as its Dag is there; the run's id."""
    client.wait_for_dag(walk.dag_id, timeout=DAG_SECONDS)
    conf = {**walk.payload, "flow_variables": {"apiBaseUrl": api_url}}
    return client.trigger(walk.dag_id, conf)


def end_walk(client: AirflowClient, walk: Walk, run_id: str, aws_url: str) -> WalkResult:
    """Wait for the end of a run and read its fork's result.

    Raises:
        WalkError: as in `run_walk`.
    """
    state = client.wait_for_run(walk.dag_id, run_id, timeout=RUN_SECONDS)
    tasks = client.task_instances(walk.dag_id, run_id)
    if state != "success":
        failures = _failures(client, walk, run_id, tasks)
        raise WalkError(f"Run {run_id} of {walk.dag_id} ended as {state}.\n{failures}")
    output = client.xcom(walk.dag_id, run_id, _aggregate_task(walk, tasks))
    return WalkResult(walk, run_id, tasks, _items(output, aws_url))


def _failures(
    client: AirflowClient, walk: Walk, run_id: str, tasks: Sequence[TaskContext], most: int = 3
) -> str:
    failed = [task for task in tasks if task.state == "failed"][:most]
    logs = [
        f"--- log of {task.task_id}[{task.map_index}] ---\n"
        + "\n".join(client.logs(walk.dag_id, run_id, task.task_id, task.map_index).splitlines()[-30:])
        for task in failed
    ]
    return "\n".join(logs)


def _aggregate_task(walk: Walk, tasks: Sequence[TaskContext]) -> str:
    for task in tasks:
        if task.task_id == f"{walk.fork}.aggregate":
            return task.task_id
    there = sorted({task.task_id for task in tasks})
    raise WalkError(f"{walk.dag_id} has no task {walk.fork}.aggregate, but {', '.join(there)}.")


def _items(output: Any, aws_url: str) -> list[Any]:
    """`aggregatedData` of a fork's output, from where it was offloaded to if it was."""
    data = output.get("aggregatedData", output) if isinstance(output, dict) else output
    if isinstance(data, dict) and "_s3_output_pointer" in data:
        data = _read(data["_s3_output_pointer"], aws_url)
        data = data.get("aggregatedData", data) if isinstance(data, dict) else data
    if not isinstance(data, list):
        raise WalkError(f"aggregatedData is no list: {_short(data)}")
    return data


def _read(pointer: Mapping[str, str], aws_url: str) -> Any:
    answer = aws_client("s3", aws_url).get_object(Bucket=pointer["bucket"], Key=pointer["key"])
    text = answer["Body"].read().decode()
    if pointer["key"].endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines() if line]
    return json.loads(text)


def check_products(result: WalkResult) -> None:
    """Every product of the payload is there, in the payload's order.

    Raises:
        WalkError: it is not.
    """
    wanted = [item["id"] for item in result.walk.payload["productIds"]]
    _check([item["id"] for item in result.items], wanted, "the payload's products")


def check_users(client: AirflowClient, result: WalkResult, aws_url: str, count: int) -> None:
    """Every user of the manifest is there, in the manifest's order.

    Raises:
        WalkError: it is not.
    """
    manifest = client.xcom(result.walk.dag_id, result.run_id, MANIFEST_STEP)["manifest"]
    wanted = [line["userId"] for line in _read(manifest["_s3_output_pointer"], aws_url)]
    if len(wanted) != count:
        raise WalkError(f"The manifest has {len(wanted)} lines, not {count}.")
    _check([item["userId"] for item in result.items], wanted, "the manifest's users")


def _check(found: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    if list(found) != list(wanted):
        raise WalkError(
            f"The result is not {what} in their order: {len(found)} of {len(wanted)}, {_short(found)}"
        )


def tell(stages: Stages, result: WalkResult, base_url: str) -> None:
    """Print a result in short, and where its branch runs are in the UI."""
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


def run_url(base_url: str, result: WalkResult) -> str:
    """Address of a run in Airflow's UI."""
    return f"{base_url}/dags/{result.walk.dag_id}/runs/{result.run_id}"


def _short(value: Any, most: int = 140) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= most else text[:most] + " ..."
