"""Large results of forks in Dags: stored objects that steps read as lists and forks use as items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_allma.storage import Pointer
from tests.airflow.flows import branch, compose, fork, route

pytestmark = pytest.mark.airflow

WORK = compose({"n": "$.currentItem"}, literals={"text": "x" * 300})
ITEMS = {"items": list(range(40)), "lists": [list(range(40)), [7]]}


def lines_of(value: object) -> list[object]:
    pointer = Pointer.parse(value)
    assert pointer is not None
    return [json.loads(line)["n"] for line in Path("/", pointer.key).read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"maxInMemoryItems": 10}])
def test_a_forks_large_result_can_be_read_as_a_list_and_used_as_items(run, tmp_path, options):
    steps = {
        "f": fork(branch("w"), to="read"),
        "w": WORK,
        "read": compose(
            {
                "count": "$.steps_output.f.aggregatedData.length",
                "last": "$.steps_output.f.aggregatedData[39].n",
            },
            to="again",
        ),
        "again": fork(branch("v"), items="$.steps_output.f.aggregatedData", strategy="SUM", dataPath="$.m"),
        "v": compose({"m": "$.currentItem.n"}),
    }
    ended = run(steps, ITEMS, airflow={"offloadLocation": tmp_path.as_uri(), **options})
    assert ended.state == "success"
    assert lines_of(ended.xcom("f.aggregate")["aggregatedData"]) == list(range(40))
    assert ended.xcom("read") == {"count": 40, "last": 39}
    assert ended.xcom("again.aggregate") == {"aggregatedData": sum(range(40))}


def test_forks_inside_one_task_behave_like_forks_over_many_tasks(run, tmp_path):
    steps = {
        "f": fork(branch("inner"), items="$.initialContextData.lists", to="g"),
        "inner": fork(branch("w"), items="$.currentItem", to="read"),
        "w": WORK,
        "read": compose(
            {
                "data": "$.steps_output.inner.aggregatedData",
                "first": "$.steps_output.inner.aggregatedData[0].n",
            },
        ),
        "g": fork(
            branch("v"), items="$.steps_output.f.aggregatedData[0].data", strategy="SUM", dataPath="$.m"
        ),
        "v": compose({"m": "$.currentItem.n"}),
    }
    ended = run(steps, ITEMS, airflow={"offloadLocation": tmp_path.as_uri()})
    assert ended.state == "success"
    large, small = ended.xcom("f.aggregate")["aggregatedData"]
    assert (large["first"], small["first"]) == (0, 7)
    assert lines_of(large["data"]) == list(range(40))
    assert small["data"] == [{"n": 7, "text": "x" * 300}]
    assert ended.xcom("g.aggregate") == {"aggregatedData": sum(range(40))}


def test_a_fork_in_a_loop_writes_one_object_per_iteration(run, tmp_path):
    steps = {
        "f": fork(branch("w"), to="keep", outputMappings={"$.now": "$.aggregatedData"}),
        "w": compose({"n": "$.currentItem", "before": "$.before[0].n"}, literals={"text": "x" * 300}),
        "keep": route(("$.before == undefined", "mark"), to="end"),
        "mark": compose({"now": "$.now"}, to="f", outputMappings={"$.before": "$.now"}),
        "end": compose({"first": "$.before", "second": "$.now"}),
    }
    ended = run(steps, ITEMS, airflow={"offloadLocation": tmp_path.as_uri()})
    assert ended.state == "success"
    output = ended.xcom("end")
    assert output["first"] != output["second"]
    assert lines_of(output["first"]) == lines_of(output["second"]) == list(range(40))
    second = Path("/", output["second"]["_s3_output_pointer"]["key"]).read_text().splitlines()
    assert {json.loads(line)["before"] for line in second} == {0}
