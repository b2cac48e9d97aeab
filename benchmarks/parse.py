"""What flows cost when Airflow parses them: all of them in the Dag processor, one in a task's process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.measuring import Measure, seconds

STEPS = 10


def _flow(number: int) -> dict[str, object]:
    steps = {
        f"step_{place}": {
            "stepType": "DATA_TRANSFORMATION",
            "moduleIdentifier": "system/compose-object-from-input",
            "inputMappings": {"n": "$.n", "before": "$.steps_output"},
            **({"defaultNextStepInstanceId": f"step_{place + 1}"} if place + 1 < STEPS else {}),
        }
        for place in range(STEPS)
    }
    return {"id": f"flow-{number}", "startStepInstanceId": "step_0", "steps": steps}


def run() -> dict[str, Measure]:
    from airflow.sdk.definitions import context as _  # noqa: F401 - imports are not what is measured

    measures: dict[str, Measure] = {}
    for count in (1, 500):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                Path(folder, f"flow_{number}.json").write_text(json.dumps(_flow(number)), encoding="utf-8")
            everything = seconds(lambda where=folder: _parse(where), rounds=3)
            one = seconds(lambda where=folder: _parse(where, "flow-0"), rounds=3)
        measures[f"parse_{count}"] = Measure(everything * 1000 / count, "ms/flow")
        measures[f"task_start_{count}"] = Measure(one * 1000, "ms")
    alone = measures["task_start_1"].value
    measures["task_start_500"] = Measure(measures["task_start_500"].value, "ms", alone)
    return measures


def _parse(folder: str, dag_id: str | None = None) -> None:
    from airflow_allma.dag_factory import load_flows

    load_flows([folder], only=dag_id)
