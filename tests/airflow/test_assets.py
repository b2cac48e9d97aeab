"""Assets and lineage: what forks read and write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.lineage import HookLineageCollector

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from airflow_allma.operators.task_context import flow_execution_id
from tests.airflow.flows import branch, compose, flow, fork

WORK = compose({"id": "$.currentItem.id"})


def manifest_in(folder: Path, name: str = "items.jsonl") -> dict[str, str]:
    (folder / name).write_text("".join(json.dumps({"id": n}) + "\n" for n in range(50)))
    return {"bucket": "file://", "key": str(folder / name).lstrip("/")}


@pytest.mark.parametrize(
    ("items", "value", "uris"),
    [
        ("$.flow_variables.m", {"bucket": "lake", "key": "a/b.jsonl"}, ["s3://lake/a/b.jsonl"]),
        (
            "$.flow_variables.m",
            {"_s3_output_pointer": {"bucket": "lake", "key": "ä b?#"}},
            ["s3://lake/%C3%A4%20b%3F%23"],
        ),
        ("$.flow_variables.m", [1, 2], []),
        ("$.flow_variables.other", {"bucket": "lake", "key": "k"}, []),
        ("$.initialContextData.m", {"bucket": "lake", "key": "k"}, []),
    ],
)
def test_a_manifest_that_the_flow_itself_names_is_an_inlet(items, value, uris):
    steps = {"f": fork(branch("w"), items=items), "w": WORK}
    dag = build_dag(Flow.model_validate(flow("inlets", steps, flowVariables={"m": value})))
    assert [inlet.uri for inlet in dag.get_task("f.items").inlets] == uris
    assert dag.get_task("f.aggregate").outlets == [AssetAlias("allma/inlets/f")]


def test_a_run_reports_to_lineage_what_it_read_and_wrote(run, tmp_path, monkeypatch):
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.sdk.lineage.get_hook_lineage_collector", lambda: collector)
    monkeypatch.setenv("AIRFLOW__ALLMA__OUTPUT_OFFLOAD_BYTES", "10")
    steps = {"f": fork(branch("w"), items="$.initialContextData.m"), "w": WORK}
    manifest = manifest_in(tmp_path, "it ems.jsonl")
    ran = run(steps, {"m": manifest}, airflow={"offloadLocation": f"file://{tmp_path}"})
    assert ran.state == "success"
    key = ran.xcom("f.aggregate")["aggregatedData"]["_s3_output_pointer"]["key"]
    ((uri, extra),) = assets_below(tmp_path).items()
    dag_id = Path(uri).parent.name
    assert uri == f"file://{tmp_path}/{dag_id}/f"
    assert extra == {
        "object": f"file:///{quote(key)}",
        "flowExecutionId": flow_execution_id(dag_id, ran.run_id),
    }
    lineage = collector.collected_assets
    assert [one.asset.uri for one in lineage.inputs] == [f"file://{tmp_path}/it%20ems.jsonl"]
    assert [one.asset.uri for one in lineage.outputs] == [f"file:///{quote(key)}"]


def assets_below(folder: Path) -> dict[str, Any]:
    """Return the extra of the last event of each asset, by URI."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        events = session.query(AssetEvent, AssetModel).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return {asset.uri: event.extra for event, asset in events if str(folder) in asset.uri}


def test_an_aggregate_that_is_not_offloaded_creates_no_asset(run, tmp_path):
    steps = {"f": fork(branch("w")), "w": WORK}
    ran = run(steps, {"items": [{"id": 1}]}, airflow={"offloadLocation": f"file://{tmp_path}"})
    assert ran.state == "success"
    assert assets_below(tmp_path) == {}


@pytest.mark.parametrize(
    "steps", [{"a": compose()}, {"f": fork(branch("w")), "w": WORK}], ids=["step", "fork"]
)
def test_every_task_logs_the_flow_execution_id(run, caplog, steps: dict[str, Any]):
    with caplog.at_level("INFO", logger="airflow_allma.task"):
        ran = run(steps, {"items": [{"id": 1}]})
    lines = re.findall(r"Flow (\S+), version 1\. flowExecutionId: ([0-9a-f-]+)", "\n".join(caplog.messages))
    assert len(lines) == sum(task.state == "success" for task in ran.tasks)
    assert {execution for _, execution in lines} == {flow_execution_id(lines[0][0], ran.run_id)}
