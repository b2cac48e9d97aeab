"""Functions that build the steps of small flows, which need only Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.flow_files import write

Json = dict[str, Any]


def compose(mappings: Json | None = None, to: str | None = None, **more: Any) -> Json:
    """Return a step that composes an object from what its mappings find."""
    return {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/compose-object-from-input",
        "inputMappings": mappings or {},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def failing(to: str | None = None, **more: Any) -> Json:
    """Return a step that always fails, permanently: the source of its module is not a valid URI."""
    return {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/s3-data-loader",
        "customConfig": {"sourceS3Uri": "nonsense"},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def route(*ways: tuple[str, str], to: str | None = None, **more: Any) -> Json:
    """Return a step that only selects the next one: pairs of condition and step."""
    return {
        "stepType": "NO_OP",
        "transitions": [{"condition": condition, "nextStepInstanceId": step} for condition, step in ways],
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def fork(
    *branches: Json, items: str = "$.initialContextData.items", to: str | None = None, **more: Any
) -> Json:
    """Return a fork; keywords that are not fields of the step go into ``aggregationConfig``."""
    of_step = {key: more.pop(key) for key in list(more) if key in STEP_KEYS}
    return {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": items,
        "parallelBranches": list(branches),
        "aggregationConfig": {"strategy": "COLLECT_ARRAY", **more},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **of_step,
    }


STEP_KEYS = {
    "airflow",
    "branchSelection",
    "delay",
    "displayName",
    "itemLabelPath",
    "itemReader",
    "onError",
    "outputMappings",
    "outputValidation",
    "resultWriter",
}


def branch(start: str, branch_id: str = "b", **more: Any) -> Json:
    """Return a branch that consists of steps of the flow."""
    return {"branchId": branch_id, "stepInstanceId": start, **more}


def flow(flow_id: str, steps: Json, start: str | None = None, **more: Any) -> Json:
    """Return a flow that starts at its first step by default."""
    return {"id": flow_id, "startStepInstanceId": start or next(iter(steps)), "steps": steps, **more}


def write_flows(folder: Path, *names: str) -> None:
    """Write a small flow into a file of each name; ``a/b`` is the flow ``a-b`` in a subfolder."""
    for name in names:
        write(folder, f"{name}.json", flow(name.replace("/", "-"), {"s": compose()}))
