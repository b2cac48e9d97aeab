"""Sub-flows in Dags: on the main path, in loops, in mapped branches and in chunks, with equal results."""

from __future__ import annotations

import pytest

from airflow_allma.dag_factory import load_flows
from tests.airflow.flows import branch, compose, failing, flow, fork, route
from tests.support.flow_files import write
from tests.support.sub_flows import start_flow, sub_flow

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]

VAT = flow(
    "vat",
    {
        "rate": compose({"net": "$.net"}, to="more", outputMappings={"$.net": "$.net"}),
        "more": compose(
            {"net": "$.net", "parent": "$.parentFlowExecutionId", "root": "$.rootFlowExecutionId"},
            literals={"depth": "$.depth", "kind": "{{executionKind}}"},
            outputMappings={"$.vat": "$"},
        ),
    },
    airflow={"inputSchema": {"type": "object", "properties": {"net": {"type": "number"}}}},
)
BROKEN = flow("broken", {"ok": compose(to="bad"), "bad": failing()})
ITEMS = [1, 2, 3]


@pytest.fixture
def run_flow(tmp_path, run_dag):
    """Return a function that runs a flow of a folder in which other flows are, too."""

    def run_steps(steps, payload, **more):
        folder = tmp_path / "flows"
        write(folder, "vat.json", VAT)
        write(folder, "deeper/broken.json", BROKEN)
        write(folder, "parent.json", flow("parent", steps, **more))
        return run_dag(load_flows(folder, only="parent")["parent"], payload)

    return run_steps


SUB = sub_flow("vat", inputMappings={"net": "$.net"})
OF_ITEM = sub_flow("vat", inputMappings={"net": "$.currentItem"})
OF_BRANCH = {
    "branchId": "b",
    "stepType": "START_SUB_FLOW",
    "subFlowDefinitionId": "vat",
    "inputMappings": {"net": "$.currentItem"},
}


def seen(context):
    """Return what the sub-flow saw of the run; both ids are the same, as its parent is the root."""
    found = dict(context["vat"])
    assert found.pop("parent") == found.pop("root")
    return found


EXPECTED = [{"net": net, "depth": 1, "kind": "SYNC_SUBFLOW"} for net in ITEMS]


@pytest.mark.parametrize("make", [sub_flow, start_flow])
def test_on_the_main_path(run_flow, make):
    steps = {"sub": {**make("vat", inputMappings={"net": "$.net"}), "defaultNextStepInstanceId": "after"}}
    steps["after"] = compose({"net": "$.steps_output.sub.vat.net"})
    ended = run_flow(steps, {"net": 1})
    assert ended.state == "success"
    assert seen(ended.xcom("sub")) == EXPECTED[0]
    assert ended.xcom("after") == {"net": 1}


def test_in_a_loop(run_flow):
    steps = {
        "begin": compose({"net": "$.net"}, to="sub", outputMappings={"$.list": "$.none"}),
        "sub": {**SUB, "outputMappings": {"$.last": "$"}, "defaultNextStepInstanceId": "again"},
        "again": compose(
            {"net": "$.last.vat.net"},
            outputMappings={"$.done": "$.net"},
            transitions=[{"condition": "$.transitionCounts['again:0'] != 1", "nextStepInstanceId": "sub"}],
            to="end",
        ),
        "end": compose({"vat": "$.last.vat"}),
    }
    ended = run_flow(steps, {"net": 1})
    assert seen(ended.xcom("end")) == EXPECTED[0]
    assert {task.task_id for task in ended.tasks} == {"begin", "sub", "end"}


FORKS = {
    "a step": fork(branch("sub"), items="$.items", dataPath="$.steps_output.sub.vat"),
    "a branch": fork(OF_BRANCH, items="$.items", dataPath="$.vat"),
}
MODES = {"mapped": {}, "chunks": {"maxInMemoryItems": 1}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FORKS)
def test_for_each_item(run_flow, kind, mode):
    steps = {"f": FORKS[kind], **({"sub": OF_ITEM} if kind == "a step" else {})}
    ended = run_flow(steps, {"items": ITEMS}, airflow=MODES[mode])
    assert ended.state == "success"
    results = ended.xcom("f.aggregate")["aggregatedData"]
    assert [seen({"vat": result}) for result in results] == EXPECTED


HANDLERS = {
    "fallback": ({"fallbackStepInstanceId": "rescue"}, "success"),
    "continueOnFailure": ({"continueOnFailure": True}, "success"),
    "nothing": ({}, "failed"),
}


@pytest.mark.parametrize(("on_error", "state"), HANDLERS.values(), ids=HANDLERS)
def test_a_failed_sub_flow_is_an_error_of_the_step(run_flow, on_error, state):
    steps = {"sub": sub_flow("broken", onError=on_error), "rescue": compose({"ok": "$.net"})}
    if "fallbackStepInstanceId" not in on_error:
        del steps["rescue"]
    ended = run_flow(steps, {"net": 1})
    assert ended.state == state
    if "fallbackStepInstanceId" in on_error:
        assert ended.xcom("rescue") == {"ok": 1}
        return
    error = ended.xcom("sub") if on_error else ended.xcom("sub", key="allma_error")
    assert error["errorDetails"]["failedStepInstanceId"] == "sub"
    assert error["errorDetails"]["subFlow"]["failedStepInstanceId"] == "bad"
    assert error["errorDetails"]["subFlow"]["flowDefinitionId"] == "broken"


@pytest.mark.parametrize("mode", MODES)
def test_items_whose_sub_flow_fails_are_errors_in_place(run_flow, mode):
    broken = {"branchId": "b", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "broken"}
    steps = {"f": fork(broken, items="$.items", failOnBranchError=False)}
    results = run_flow(steps, {"items": ITEMS}, airflow=MODES[mode]).xcom("f.aggregate")["aggregatedData"]
    assert [result["error"]["errorDetails"]["itemIndex"] for result in results] == [0, 1, 2]
    assert {result["error"]["errorDetails"]["subFlow"]["failedStepInstanceId"] for result in results} == {
        "bad"
    }


def test_a_payload_that_does_not_fit_fails_the_task(run_flow):
    ended = run_flow({"sub": sub_flow("vat", literals={"net": "x"})}, {})
    assert ended.state == "failed"
    error = ended.xcom("sub", key="allma_error")
    assert error["errorName"] == "PayloadError"
    assert error["errorMessage"].startswith("Step sub cannot run flow 'vat', version 1.")


def test_a_flow_that_nothing_defines_is_named_with_the_nearest(run_flow):
    ended = run_flow({"sub": start_flow("{{name}}")}, {"name": "vatt"})
    error = ended.xcom("sub", key="allma_error")
    assert error["errorName"] == "UnknownSubflowError"
    assert error["errorMessage"] == "'vatt' is not a known flow. Did you mean 'vat'?"


def test_only_the_files_of_the_flows_that_run_are_read(run_flow, monkeypatch):
    from airflow_allma.dag_factory.flow_files import FlowFolders

    loaded = []
    load_one = FlowFolders.load_one
    monkeypatch.setattr(FlowFolders, "load_one", lambda *args: loaded.append(args[1]) or load_one(*args))
    steps = {"go": route(("$.net > 5", "sub"), to="other"), "sub": SUB, "other": compose()}
    run_flow(steps, {"net": 1})
    assert loaded == ["parent"]
    run_flow(steps, {"net": 7})
    assert loaded == ["parent", "parent", "vat"]
