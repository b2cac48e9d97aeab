"""A sub-flow for each line of a chunk, beside a branch of the same steps.

``sub_flows`` is the time of a chunk whose branch is a sub-flow, and its reference is that of a chunk whose
branch has the steps itself; rounds of both alternate. ``one_step`` is the same with a flow of one step.
``waiting`` is the same with a flow that runs on the event loop, as one does that calls an API. Files are
local.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from airflow_allma.engine import CompiledFlows
from airflow_allma.flow import Flow, parse_flow
from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, ChunkWorker, folder_of, fork_flow, plan, write_lines
from benchmarks.measure import Measure

KEY = "users.jsonl"
ROUNDS = 5


def run(items: int = 20_000, steps: int = 3) -> dict[str, Measure]:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        write_lines(root / BUCKET / KEY, items)
        return {
            "sub_flows": _measure(root, items, steps),
            "one_step": _measure(root, items, 1),
            "waiting": _measure(root, items, steps, waits=True),
            "items": Measure(items, "items"),
        }


def _measure(root: Path, items: int, steps: int, *, waits: bool = False) -> Measure:
    child = _steps(steps, "$.user", waits=waits)
    document = {"id": "child", "startStepInstanceId": "s0", "steps": child}

    def find(*_: str) -> Flow:
        return parse_flow(document)

    last = f"$.steps_output.s{steps - 1}"
    sub_flow = {
        "branchId": "each",
        "stepType": "START_SUB_FLOW",
        "subFlowDefinitionId": "child",
        "inputMappings": {"user": "$.currentItem"},
    }
    plain = {
        "branchId": "each",
        "stepInstanceId": "s0",
        "steps": _steps(steps, "$.currentItem", waits=waits),
    }
    config: dict[str, Any] = {"aggregationConfig": {"dataPath": last}}
    store = LocalStore(root)
    workers = [
        ChunkWorker(
            store,
            fork_flow({"stepType": "NO_OP"}, parallelBranches=[branch], **config),
            flows=CompiledFlows(find),
        )
        for branch in (sub_flow, plain)
    ]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for worker, taken in zip(workers, times, strict=True):
            taken.append(_seconds(root, store, worker, items))
    with_sub_flow, without = map(statistics.median, times)
    return Measure(with_sub_flow, "s", without)


def _steps(count: int, source: str, *, waits: bool) -> dict[str, Any]:
    """Return steps that each compose an object; the last one also waits for nothing if ``waits``."""
    built: dict[str, Any] = {}
    for number in range(count):
        built[f"s{number}"] = {
            "stepType": "DATA_TRANSFORMATION",
            "moduleIdentifier": "system/compose-object-from-input",
            "inputMappings": {
                "id": f"{source}.userId",
                "region": f"{source}.region",
                "plan": f"{source}.account.plan",
            },
            "literals": {"kind": "user"},
            **({"defaultNextStepInstanceId": f"s{number + 1}"} if number + 1 < count else {}),
        }
    if waits:
        # A step with retries runs on the event loop.
        built[f"s{count - 1}"]["onError"] = {"retries": {"count": 1}}
    return built


def _seconds(root: Path, store: LocalStore, worker: ChunkWorker, items: int) -> float:
    shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
    (chunk,) = plan(store, KEY, 1)
    started = perf_counter()
    assert worker.run(chunk, folder_of(0)) == items
    return perf_counter() - started
