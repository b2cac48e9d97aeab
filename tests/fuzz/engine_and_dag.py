"""Campaign: random flows, run by the engine as `airflow-allma run` does, in chunks too, and as a Dag."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from airflow_allma.cli.event_option import EventOption
from airflow_allma.cli.run_command import _run
from airflow_allma.cli.start_option import StartOption
from airflow_allma.engine import SegmentStatus
from airflow_allma.engine.compile import CompiledFlows
from airflow_allma.loading import load_flow_files
from airflow_allma.storage import Pointer, open_folder
from airflow_allma.storage.pointer import FILE_BUCKET, file_path
from demo.metadata_db import DatabaseCache, new_sqlite
from tests.conformance.comparison import same_context
from tests.fuzz import random_flows
from tests.fuzz.campaign import Campaign, WrongError
from tests.fuzz.random_flows import FlowRun, document
from tests.support import airflow_home

MANIFEST = "manifest.jsonl"
DATABASES = Path(__file__).parents[2] / ".pytest_cache" / "d" / "airflow-database"
"""Where pytest keeps a migrated database too."""

_numbers = itertools.count()


def check(run: FlowRun, folder: Path) -> str:
    number = next(_numbers)
    home = folder / f"run-{number}"
    (home / "store").mkdir(parents=True)
    manifest = home / "store" / MANIFEST
    manifest.write_bytes(b"\n".join(run.manifest))
    location = f"file://{home / 'store'}"
    flow_file = home / "flow.json"
    flow_file.write_text(json.dumps(document(run, f"fuzz-{number}", location)))
    loaded = load_flow_files([flow_file])
    if not loaded.flows:
        raise WrongError(f"the generator made a broken flow: {'; '.join(map(str, loaded.problems))}")
    flow = loaded.flows[0].flow
    payload = {**run.payload, "manifest": Pointer(FILE_BUCKET, str(manifest).lstrip("/")).wrap()}
    results = {
        "engine": _engine(flow, payload, location, chunks=False),
        "engine in chunks": _engine(flow, payload, location, chunks=True),
        "Dag": _dag(flow, payload),
    }
    first = results["engine"]
    for name, result in results.items():
        if result[0] != first[0]:
            raise WrongError(f"the {name} ends differently: {result!r:.1500}; the engine {first!r:.1500}")
        if first[0] == "COMPLETED" and not same_context(
            _resolved(result[1], home), _resolved(first[1], home)
        ):
            raise WrongError(f"the {name} has another context: {_differences(result[1], first[1])!r:.2500}")
    return str(first[0])


def _engine(flow: Any, payload: Mapping[str, Any], location: str, *, chunks: bool) -> tuple[str, Any]:
    start, store, flows = StartOption(dict(payload)), open_folder(location), CompiledFlows(_no_flow)
    result = asyncio.run(_run(flow, start, EventOption(), store, flows, trace=False, chunks=chunks))
    if result.status is SegmentStatus.COMPLETED:
        return "COMPLETED", result.state.context
    return f"FAILED {(result.error or {}).get('errorName')}", None


def _no_flow(flow_id: str, version: str) -> Any:
    raise AssertionError(f"no random flow starts another one; this one starts {flow_id} {version}")


def _dag(flow: Any, payload: Mapping[str, Any]) -> tuple[str, Any]:
    from airflow_allma.dag_factory import build_dag
    from airflow_allma.operators.xcoms import Key
    from tests.support.airflow import _run_dag

    ended = _run_dag(build_dag(flow), payload)
    main = {
        (task_id, key): value for (task_id, map_index, key), value in ended.xcoms.items() if map_index == -1
    }
    if ended.state == "success":
        (last,) = (
            value for (_, key), value in main.items() if key == Key.STATE and value["nextStep"] is None
        )
        return "COMPLETED", last["context"]
    failed = {task.task_id for task in ended.tasks if task.state == "failed" and task.map_index == -1}
    names = [value["errorName"] for (task, key), value in main.items() if key == Key.ERROR and task in failed]
    return f"FAILED {names[0] if names else None}", None


def _resolved(value: Any, home: Path) -> Any:
    """Return a value with the content of the objects that it points to, and without ids of the run."""
    if isinstance(value, dict):
        pointer = value.get("_s3_output_pointer")
        if isinstance(pointer, dict) and not pointer["key"].endswith(MANIFEST):
            file = (
                file_path(pointer["bucket"], pointer["key"])
                or home / "store" / pointer["bucket"] / pointer["key"]
            )
            return _resolved(_content(file), home)
        return {key: _resolved(member, home) for key, member in value.items() if key != "flowExecutionId"}
    if isinstance(value, list):
        return [_resolved(element, home) for element in value]
    return value


def _content(file: Path) -> Any:
    data = file.read_bytes()
    if file.suffix == ".jsonl":
        return [msgspec.json.decode(line) for line in data.splitlines()]
    return msgspec.json.decode(data)


def _differences(ours: Any, theirs: Any, path: str = "$") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            difference
            for key in sorted({*ours, *theirs})
            for difference in _differences(ours.get(key, "-"), theirs.get(key, "-"), f"{path}.{key}")
        ]
    return [] if ours == theirs else [f"{path}: {ours!r:.300} != {theirs!r:.300}"]


def start(folder: Path) -> None:
    airflow_home.enter()
    new_sqlite(airflow_home.database(), DatabaseCache(DATABASES))
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    warm = {"s": {"stepType": "NO_OP"}}
    check(FlowRun(warm, {}, {"n": 1}, ()), folder)


def show(run: FlowRun) -> str:
    return json.dumps({"steps": run.steps, "options": run.options, "payload": run.payload}) + repr(
        run.manifest
    )


CAMPAIGN = Campaign("flows", random_flows.make, check, start, show)
