"""The files of a ``resultWriter`` in Airflow: the same in every mode, and replaced when items run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from airflow_allma.operators.xcoms import Key, pull
from airflow_allma.storage import LocalStore
from airflow_allma.storage.keys import key_segment
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.test_chunks import WORK, asking, cut, manifest_run, parts, run_all
from tests.airflow.test_execution_modes import without_offsets
from tests.support.result_files import WrittenResults, read_results

pytestmark = pytest.mark.airflow


def to_files(folder: Path) -> dict[str, Any]:
    return {"resultWriter": {"location": f"{folder.as_uri()}/out"}}


def files_of(folder: Path, dag_id: str) -> WrittenResults:
    [manifest] = folder.glob(f"out/{dag_id}/*/f/manifest.json")
    written = read_results(LocalStore(folder), "file://", str(manifest.parent).lstrip("/"))
    assert written.manifest["dagId"] == dag_id
    assert manifest.parent.parent.name == key_segment(written.manifest["runId"])
    return written


def test_items_that_run_again_after_they_failed_move_to_the_other_file(tmp_path, shop):
    shop.answer = lambda path, number: (404, {}) if path == "/7" and number == 1 else (200, {"path": path})
    dag_run = manifest_run(tmp_path, asking(shop), dataPath="$.data.path", **to_files(tmp_path))
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks)
    dag_run.run("f.aggregate")
    first = files_of(tmp_path, "by-hand")
    assert [(one["index"], one["place"]) for one in first.failed] == [(7, {"byteOffset": 7 * 10})]
    assert len(first.succeeded) == 39
    run_all(dag_run, chunks)
    for _ in range(2):
        dag_run.run("f.aggregate")
        again = files_of(tmp_path, "by-hand")
        assert again.failed == []
        assert [one["output"] for one in again.succeeded] == [f"/{n}" for n in range(40)]
        assert again.manifest["source"] == first.manifest["source"]


@pytest.mark.parametrize("strategy", ["COLLECT_ARRAY", "NONE"])
@pytest.mark.parametrize("fails", [True, False])
def test_lost_results_are_among_the_failed_ones_also_when_the_fork_fails(tmp_path, strategy, fails):
    config = {"strategy": strategy, "failOnBranchError": fails}
    dag_run = manifest_run(tmp_path, WORK, **config, **to_files(tmp_path))
    run_all(dag_run, dag_run.plan("f"))
    dag_run.kill("f.chunk", 1)
    cut(parts(tmp_path)[1], [0, 1, 4])
    dag_run.run("f.aggregate")
    assert dag_run.states["f.aggregate"] == ("failed" if fails else "success")
    written = files_of(tmp_path, "by-hand")
    lost = [13, 14, *range(16, 21)]
    assert [one["index"] for one in written.failed] == lost
    assert {one["error"]["errorName"] for one in written.failed} == {"BranchResultLost"}
    assert [one["output"]["n"] for one in written.succeeded] == [n for n in range(40) if n not in lost]


def test_a_folder_that_cannot_be_used_fails_the_aggregate_with_the_setting(tmp_path):
    outside = tmp_path / "elsewhere"
    (tmp_path / "own").mkdir()
    dag_run = manifest_run(tmp_path / "own", WORK, **to_files(outside))
    run_all(dag_run, dag_run.plan("f"))
    dag_run.run("f.aggregate")
    error = pull(dag_run.instance("x"), "f.aggregate", Key.ERROR)
    assert "resultWriter.location" in error["errorMessage"]
    assert outside.as_uri() in error["errorMessage"]


def test_tasks_of_their_own_and_chunks_write_the_same_files(run_dag, tmp_path):
    items = [{"id": "a", "n": 1}, {"n": None}, {"n": 3, "even": False}, {"n": 4, "even": True}]
    work = compose({"n": "$.currentItem.n"}, outputValidation={"requiredFields": ["$.n"]})
    branches = [branch("w", "even", condition="$.currentItem.even"), branch("w", "all")]
    found = []
    modes = [{}, {"maxInMemoryItems": 2}, {"maxInMemoryItems": 2, "maxInMemoryBytes": 1}]
    for number, options in enumerate(modes):
        fan = fork(*branches, failOnBranchError=number > 0, **to_files(tmp_path))
        airflow = {**options, "offloadLocation": tmp_path.as_uri()}
        written = flow(f"files-{number}", {"f": fan, "w": work}, airflow=airflow)
        ended = run_dag(build_dag(Flow.model_validate(written)), {"items": items})
        ran = {task.task_id for task in ended.tasks if task.state in {"success", "failed"}}
        assert ("f.chunk" in ran) is (number > 0)
        one = files_of(tmp_path, f"files-{number}")
        found.append((one.succeeded, without_offsets(one.failed), one.counts))
    assert found[0] == found[1] == found[2]
    succeeded, failed, counts = found[0]
    assert [(one["index"], one["branch"]) for one in succeeded] == [
        (0, "all"),
        (2, "all"),
        (3, "even"),
        (3, "all"),
    ]
    assert succeeded[0]["label"] == "a"
    assert [one["input"] for one in failed] == [items[1]]
    assert counts == {"items": 4, "succeeded": 4, "failed": 1, "skipped": 3}
