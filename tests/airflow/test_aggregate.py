"""The aggregate task: its checks, its log, and results that it does not decode."""

from __future__ import annotations

import json
import re

import pytest

from airflow_allma.distributed.result_format import ResultLine
from airflow_allma.operators.xcoms import Key, pull, push
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, flow, fork
from tests.airflow.test_chunks import WORK, manifest_run, parts, run_all

pytestmark = pytest.mark.airflow


def test_a_number_of_chunks_other_than_planned_is_an_error_with_both_numbers(tmp_path):
    options = {"maxInMemoryItems": 2, "offloadLocation": f"file://{tmp_path}"}
    steps = {"f": fork(branch("w"), items="$.initialContextData.items"), **WORK}
    dag_run = FakeDagRun(flow("list", steps, airflow=options), {"items": [{"n": n} for n in range(6)]})
    run_all(dag_run, dag_run.plan("f"))
    plan = pull(dag_run.instance("x"), "f.chunks", Key.PLAN)
    assert len(plan["chunks"]) == 3
    push(dag_run.instance("f.chunks"), Key.PLAN, plan | {"chunks": plan["chunks"][:2]})
    assert "6 items were planned, but the chunks have 4" in str(dag_run.run("f.aggregate"))


def test_a_chunk_that_did_not_report_is_named_in_the_log(tmp_path, caplog):
    dag_run = manifest_run(tmp_path, WORK)
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks[:2])
    dag_run.run("f.chunk", 3, chunks[3])
    dag_run.states["f.chunk_2"] = "failed"
    dag_run.run("f.aggregate")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    warnings = [message for message in warnings if "no result" in message]
    reason = "task f.chunk[2] (items 21-30) ended as failed without a result"
    assert warnings == [f"{reason}: 10 of 10 items of chunk 2 have no result"]


@pytest.mark.parametrize("strategy", ["COLLECT_ARRAY", "NONE"])
def test_branch_results_are_not_decoded_unless_something_reads_them(tmp_path, strategy, monkeypatch):
    numbers = '{"n":1.50,"m":10000000000000000000000000000}'
    dag_run = manifest_run(tmp_path, WORK, strategy=strategy)
    run_all(dag_run, dag_run.plan("f"))
    for part in parts(tmp_path):
        part.write_text(re.sub(r'"output":\{"n":\d+\}', f'"output":{numbers}', part.read_text()))
    monkeypatch.setattr(ResultLine, "value", lambda _: pytest.fail("decoded"))
    output = dag_run.run("f.aggregate")
    if strategy == "NONE":
        assert output["branchCount"] == 40
    else:
        # Airflow cannot hold an integer of 94 bits: the output is shown as JSON.
        assert json.loads(output) == {"aggregatedData": [json.loads(numbers)] * 40}
