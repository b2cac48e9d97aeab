"""A fork over a manifest on a real Airflow: a run with a million lines against a run with a thousand.

Measured for both: seconds from the run's start to its end, task instances, rows in the database (task
instances, XComs and rendered fields) and bytes in XComs. The reference is the run with a thousand lines. A
warm-up run before them is not counted. LocalExecutor, PostgreSQL if it is installed, local files, default
settings except the offload location.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow_allma.storage.pointer import FILE_BUCKET
from benchmarks.airflow_runs import RunFigures, airflow, database, run_dag
from benchmarks.chunk_work import COMPOSE, fork_flow, write_lines
from benchmarks.measure import Measure

FEW = 1000
FLOW_ID = "bench-map"


def run(items: int = 1_000_000) -> dict[str, Measure]:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        store = root / "store"
        flow = fork_flow(COMPOSE, FLOW_ID, itemsPath="$.initialContextData.manifest")
        conf = {count: _manifest(store / f"{count}.jsonl", count) for count in (FEW, items)}
        with airflow(root, [flow], offload_location=store.as_uri()) as instance:
            run_dag(instance, FLOW_ID, conf[FEW])
            few, many = (run_dag(instance, FLOW_ID, conf[count]) for count in (FEW, items))
            parallelism = instance.parallelism
    return {
        "seconds": Measure(many.seconds, "s", few.seconds),
        "task_instances": Measure(many.task_instances, "task instances", few.task_instances),
        "rows": Measure(_rows(many), "rows", _rows(few)),
        "xcom_bytes": Measure(many.xcom_bytes, "bytes", few.xcom_bytes),
        "items": Measure(items, "items", FEW),
        "tasks_at_once": Measure(parallelism, f"tasks on {database()}"),
    }


def _manifest(file: Path, lines: int) -> dict[str, Any]:
    write_lines(file, lines)
    return {"manifest": {"_s3_output_pointer": {"bucket": FILE_BUCKET, "key": str(file).lstrip("/")}}}


def _rows(run: RunFigures) -> int:
    return run.task_instances + run.xcoms + run.rendered
