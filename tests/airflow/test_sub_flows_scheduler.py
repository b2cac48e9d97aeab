"""A sub-flow runs in the task of its parent on a real scheduler: it has no Dag run of its own."""

from __future__ import annotations

import pytest

from tests.airflow.flows import compose, flow, fork
from tests.support.sub_flows import sub_flow

pytestmark = pytest.mark.scheduler

CHILD = flow(
    "sub-child",
    {"rate": compose({"net": "$.net"}, literals={"depth": "$.depth"}, outputMappings={"$.vat": "$"})},
)
OF_ITEM = {
    "branchId": "b",
    "stepType": "START_SUB_FLOW",
    "subFlowDefinitionId": "sub-child",
    "inputMappings": {"net": "$.currentItem"},
}


def test_a_sub_flow_runs_in_the_tasks_of_its_parent(deploy, airflow_client):
    deploy(CHILD)
    steps = {
        "sub": {
            **sub_flow("sub-child", inputMappings={"net": "$.net"}),
            "outputMappings": {"$.one": "$.vat"},
            "defaultNextStepInstanceId": "each",
        },
        "each": fork(OF_ITEM, items="$.items", dataPath="$.vat", to="end"),
        "end": compose({"one": "$.one", "each": "$.steps_output.each.aggregatedData"}),
    }
    dag_id = deploy(flow("sub-parent", steps))
    run_id = airflow_client.trigger(dag_id, {"net": 7, "items": [1, 2]})
    assert airflow_client.wait_for_run(dag_id, run_id) == "success"
    assert airflow_client.xcom(dag_id, run_id, "end") == {
        "one": {"net": 7, "depth": 1},
        "each": [{"net": 1, "depth": 1}, {"net": 2, "depth": 1}],
    }
    assert airflow_client.runs("sub-child") == []
