"""Small flows that need nothing outside of Airflow."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def compose(mappings: Json | None = None, to: str | None = None, **more: Any) -> Json:
    """A step that makes an object of what its mappings find."""
    return {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/compose-object-from-input",
        "inputMappings": mappings or {},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def failing(to: str | None = None, **more: Any) -> Json:
    """A step that fails for good: its module wants a list of objects and gets a number."""
    return {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/s3-data-loader",
        "customConfig": {"sourceS3Uri": "nonsense"},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def route(*ways: tuple[str, str], to: str | None = None, **more: Any) -> Json:
    """A step that does nothing but choose: pairs of condition and step."""
    return {
        "stepType": "NO_OP",
        "transitions": [{"condition": condition, "nextStepInstanceId": step} for condition, step in ways],
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def fork(
    *branches: Json, items: str = "$.initialContextData.items", to: str | None = None, **more: Any
) -> Json:
    """A fork; keywords that belong to ``aggregationConfig`` go there."""
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
    "onError",
    "outputMappings",
    "outputValidation",
}


def branch(start: str, branch_id: str = "b", **more: Any) -> Json:
    """A branch of the flow's own steps."""
    return {"branchId": branch_id, "stepInstanceId": start, **more}


def flow(flow_id: str, steps: Json, start: str | None = None, **more: Any) -> Json:
    """A flow that starts at its first step."""
    return {"id": flow_id, "startStepInstanceId": start or next(iter(steps)), "steps": steps, **more}
