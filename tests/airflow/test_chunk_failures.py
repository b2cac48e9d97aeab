"""The log of a chunk about items that failed."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.failure_report import FailureReport, Failures
from airflow_allma.engine import BranchResult, BranchStatus
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import Json, branch, compose, failing, flow, fork, route
from tests.airflow.test_chunks import lines

pytestmark = pytest.mark.airflow

ODD_ONES_FAIL = {"w": route(("$.currentItem.odd == true", "bad"), to="x"), "bad": failing(), "x": compose()}


@pytest.fixture
def warnings_of(caplog):
    """Return a function that runs a task and returns its warnings and its result."""

    def run(dag_run: FakeDagRun, number: int, chunk: Json) -> tuple[list[str], str]:
        caplog.clear()
        ended = dag_run.run("f.chunk", number, chunk)

        messages = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        return messages, str(ended)

    return run


def listed(**airflow: object) -> FakeDagRun:
    items = [{"id": f"i{n}", "odd": n % 2 == 1} for n in range(60)]
    return FakeDagRun(
        flow(
            "failures", {"f": fork(branch("w")), **ODD_ONES_FAIL}, airflow={"maxInMemoryItems": 30, **airflow}
        ),
        {"items": items},
    )


def test_the_first_ten_failed_items_of_a_list_are_logged_with_step_and_error(warnings_of):
    dag_run = listed()
    _, second = dag_run.plan("f")
    logged, ended = warnings_of(dag_run, 1, second)
    assert logged[0] == "15 of 30 items failed. The first of them:"
    assert [one.rpartition(" (")[2] for one in logged[1:11]] == [
        f"item {n}, i{n}, step bad)" for n in range(31, 51, 2)
    ]
    assert logged[1].startswith("PermanentStepError: ")
    assert len(logged) == 12
    assert "to rerun all items of this chunk. With [allma] offload_location" in logged[11]
    assert ended.startswith("15 of 30 items failed; the log above shows the first of them. Clear this task")


def test_with_an_offload_location_the_log_says_that_a_clear_runs_only_the_failed_items(warnings_of, tmp_path):
    dag_run = listed(offloadLocation=f"file://{tmp_path}")
    logged, _ = warnings_of(dag_run, 0, dag_run.plan("f")[0])
    assert logged[-1] == (
        "Clear this task and its downstream tasks to rerun the failed items, and only these."
    )


def test_nothing_is_logged_when_no_item_failed(warnings_of, tmp_path):
    steps = {"f": fork(branch("w")), "w": compose()}
    dag_run = FakeDagRun(flow("good", steps, airflow={"maxInMemoryItems": 1}), {"items": [1, 2]})
    assert warnings_of(dag_run, 0, dag_run.plan("f")[0])[0] == []


@pytest.mark.parametrize("uncounted", [False, True])
def test_failed_items_of_a_manifest_and_broken_lines_are_logged_with_line_and_byte(
    warnings_of, tmp_path, uncounted
):
    payload = lines(tmp_path, 40)
    manifest = tmp_path / "m.jsonl"
    rows = manifest.read_text().splitlines()
    rows[14], rows[16], rows[18] = "{broken}", "", '{"n": 1, "id": "r"}'
    manifest.write_text("\n".join(rows) + "\n")
    steps = {
        "f": fork(branch("w"), branch("y", "other"), items="$.initialContextData.p"),
        "w": route(("$.currentItem.id == 'r'", "bad"), to="x"),
        "bad": failing(),
        "x": compose(),
        "y": compose(),
    }
    options = {"chunkBytes": 100, "maxChunks": 4, "offloadLocation": f"file://{tmp_path}"}
    dag_run = FakeDagRun(flow("lines", steps, airflow=options), payload)
    chunks = dag_run.plan_uncounted("f") if uncounted else dag_run.plan("f")
    logged, _ = warnings_of(dag_run, 1, chunks[1])
    # Line 17 is empty, so line 19 is the item with index 17.
    number, of = (6, " of this chunk") if uncounted else (17, "")
    assert logged[0].endswith(f"items of {manifest.as_uri()} failed. The first of them:")
    assert logged[1].endswith(f"(item {number - 3}{of}, line 15, byte 140, branch b, step f)")
    assert "Line 15: The line at byte 140" in logged[1]
    assert logged[2].endswith(", branch other, step f)")
    assert logged[3].startswith("PermanentStepError")
    assert logged[3].endswith(f"(item {number}{of}, r, line 19, byte 170, branch b, step bad)")


def test_failures_have_no_labels_when_the_manifest_is_gone(tmp_path):
    steps = {"f": fork(branch("w"), items="$.initialContextData.p"), "w": compose()}
    options = {"chunkBytes": 4000, "offloadLocation": f"file://{tmp_path}"}
    dag_run = FakeDagRun(flow("gone", steps, airflow=options), lines(tmp_path, 40))
    (chunk,) = dag_run.plan("f")
    (tmp_path / "m.jsonl").unlink()
    failed = Failures()
    error = {"errorName": "E", "errorMessage": "m" * 600, "errorDetails": {"byteOffset": 20}}
    failed.add(2, BranchResult(2, 0, "b", BranchStatus.FAILED, error=error))
    run = dag_run.task_context("f.items")
    report = FailureReport(run.fork("f"), ChunkSpec.from_dict(chunk), store=run.services.store)
    assert list(report.lines(failed)) == ["E: " + "m" * 500 + "... (item 2, byte 20)"]


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 2), st.booleans()), unique_by=lambda x: x[:2]))
def test_items_are_counted_once_and_the_first_ten_branch_runs_are_kept_in_order(runs):
    failed = Failures()
    for place, index, good in runs:
        error = None if good else {"errorName": "E"}
        failed.add(place, BranchResult(place, index, "b", error=error))
    bad = sorted(run[:2] for run in runs if not run[2])
    assert failed.items == len({place for place, _ in bad})
    assert [one[:2] for one in failed.first] == bad[:10]
