"""Sub-flows that run in the process of the step that starts them."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.http_fake import json_response
from tests.support.engine import Fakes, call, compose, fork, noop, run, then
from tests.support.sub_flows import VAT, library, start_flow, sub_flow

STATE = {
    "look": compose(
        literals={
            "root": "{{rootFlowExecutionId}}",
            "parent": "{{parentFlowExecutionId}}",
            "step": "{{parentStepInstanceId}}",
            "depth": "$.depth",
            "kind": "{{executionKind}}",
            "flow": "{{flowDefinitionId}}",
            "id": "{{flowExecutionId}}",
            "same": "{{flow_variables.flowExecutionId}}",
            "logs": "$.enableExecutionLogs",
        },
        inputMappings={"mapped": "$.parentFlowExecutionId"},
        outputMappings={"$.seen": "$"},
    )
}
PAYLOADS = {
    "mappings below initialContextData": {"inputMappingsToSubFlow": {"initialContextData.net": "$.total"}},
    "mappings": {"inputMappingsToSubFlow": {"net": "$.total"}},
    "a mapping of the whole payload": {"inputMappingsToSubFlow": {"initialContextData": "$.order"}},
    "both": {"inputMappingsToSubFlow": {"initialContextData": "$.order", "net": "$.other"}},
    "the input": {"inputMappings": {"net": "$.total"}},
    "the input below initialContextData": {"inputMappings": {"initialContextData.net": "$.total"}},
    "literals": {"literals": {"net": "$.total"}},
    "mappings rather than the input": {"inputMappingsToSubFlow": {"net": "$.total"}, "literals": {"net": 9}},
}
DATA = {"total": 5, "order": {"net": 5}, "other": 7}


@pytest.mark.parametrize("fields", PAYLOADS.values(), ids=PAYLOADS)
def test_a_sub_flow_gets_what_is_mapped_to_it(fields):
    ran = run({"sub": sub_flow("vat", **fields)}, DATA, flows=library({"vat": VAT}))
    assert ran.outputs["sub"]["vat"] == {"net": 5, "label": "net 5"}
    assert ran.outputs["sub"]["initialContextData"] == {"net": 5}


def test_a_payload_that_is_not_an_object_fails_the_step():
    step = sub_flow("vat", inputMappingsToSubFlow={"initialContextData": "$.total"})
    error = run({"sub": step}, DATA, flows=library({"vat": VAT})).error
    assert error["errorMessage"] == "Step sub: `initialContextData` must be an object; it is a number."


def test_the_output_is_the_final_context_of_the_sub_flow():
    flows = library({"vat": VAT}, vat={"flowVariables": {"country": "DE"}})
    step = sub_flow("vat", inputMappings={"net": "$.total"}, outputMappings={"$.vat": "$.vat", "$.all": "$"})
    ran = run({"sub": step}, DATA, flows=flows, flow={"flowVariables": {"mine": 1}})
    assert ran.context["vat"] == {"net": 5, "label": "net 5"}
    whole = ran.context["all"]
    assert set(whole) == {"net", "initialContextData", "steps_output", "flow_variables", "vat"}
    assert set(whole["flow_variables"]) == {"country", "flowExecutionId"}
    assert ran.path == ["sub"]


def test_a_source_that_the_output_lacks_is_not_looked_up_in_the_input():
    step = sub_flow(
        "vat",
        inputMappingsToSubFlow={"net": "$.total"},
        literals={"mine": 1},
        outputMappings={"$.found": "$.net", "$.missing": "$.mine"},
    )
    ran = run({"sub": step}, DATA, flows=library({"vat": VAT}))
    assert ran.context["found"] == 5
    assert "missing" not in ran.context


def test_the_run_knows_its_parents():
    flows = library({"inner": STATE, "outer": {"deeper": sub_flow("inner")}})
    ran = run({"sub": sub_flow("outer")}, flows=flows)
    outer = ran.outputs["sub"]
    inner = outer["steps_output"]["deeper"]["seen"]
    assert inner == {
        "root": "run-1",
        "parent": outer["flow_variables"]["flowExecutionId"],
        "mapped": outer["flow_variables"]["flowExecutionId"],
        "step": "deeper",
        "depth": 2,
        "kind": "SYNC_SUBFLOW",
        "flow": "inner",
        "id": inner["same"],
        "same": str(UUID(inner["id"])),
        "logs": False,
    }


def test_each_item_has_a_run_of_its_own_with_the_same_id_each_time():
    steps = {"fan": fork("sub"), "sub": sub_flow("inner", outputMappings={"$.output": "$.seen.id"})}
    flows = library({"inner": STATE})
    first, again = (run(steps, {"items": [1, 2]}, flows=flows).outputs["fan"]["aggregatedData"] for _ in "12")
    assert first == again
    assert len(set(first)) == 2


def test_items_of_two_forks_that_share_a_step_have_runs_of_their_own():
    flows = library({"inner": STATE})
    shared = sub_flow("inner", outputMappings={"$.output": "$.seen.id"})
    ran = run(
        {"one": fork("sub", **then("two")), "two": fork("sub"), "sub": shared}, {"items": [1]}, flows=flows
    )
    (one,), (two,) = (ran.outputs[step]["aggregatedData"] for step in ("one", "two"))
    assert one != two


def test_each_turn_of_a_loop_has_a_run_of_its_own():
    again = {"condition": "$.completedStepCount < 2", "nextStepInstanceId": "sub"}
    steps = {"sub": sub_flow("inner", **then("turn")), "turn": noop(transitions=[again])}
    ran = run(steps, flows=library({"inner": STATE}))
    assert ran.path == ["sub", "turn", "sub", "turn"]
    ids = [record.output["seen"]["id"] for record in ran.fakes.records if record.step_id == "sub"]
    assert len(set(ids)) == 2


# Errors

URL = "https://api.test/x"
FAILING = {"first": noop(**then("get")), "get": call(URL)}


def replying(*statuses):
    fakes = Fakes()
    fakes.http.route("GET", URL, *(json_response({}, status=status) for status in statuses))
    return fakes


def test_a_failed_sub_flow_raises_its_own_error_with_where_it_happened():
    ran = run({"sub": sub_flow("bad")}, fakes=replying(404), flows=library({"bad": FAILING}))
    assert (ran.status, ran.path) == ("FAILED", ["sub"])
    details = ran.error["errorDetails"]
    alone = run(FAILING, fakes=replying(404)).error
    assert ran.error == {**alone, "errorDetails": details}
    assert details == {
        **alone["errorDetails"],
        "failedStepInstanceId": "sub",
        "subFlow": {
            "flowDefinitionId": "bad",
            "flowDefinitionVersion": 1,
            "flowExecutionId": details["subFlow"]["flowExecutionId"],
            "failedStepInstanceId": "get",
        },
    }


def test_the_innermost_sub_flow_is_named():
    flows = library({"bad": FAILING, "outer": {"deeper": sub_flow("bad")}})
    details = run({"sub": sub_flow("outer")}, fakes=replying(404), flows=flows).error["errorDetails"]
    assert details["failedStepInstanceId"] == "sub"
    assert details["subFlow"]["flowDefinitionId"] == "bad"
    assert details["subFlow"]["failedStepInstanceId"] == "get"


def test_the_item_of_a_fork_in_the_sub_flow_is_in_its_details():
    flows = library({"bad": {"fan": fork("get", config={"failOnBranchError": True}), "get": call(URL)}})
    step = sub_flow("bad", inputMappings={"items": "$.items"})
    error = run({"sub": step}, {"items": [1]}, fakes=replying(404), flows=flows).error
    assert error["errorName"] == "ParallelBranchExecutionError"
    assert "branchId" not in error["errorDetails"]


HANDLERS = {
    "nothing": ({}, [404], "FAILED", 1),
    "fallback": ({"fallbackStepInstanceId": "rescue"}, [404], "COMPLETED", 1),
    "continueOnFailure": ({"continueOnFailure": True}, [404], "COMPLETED", 1),
    "retries do not help a 404": ({"retries": {"count": 2}}, [404], "FAILED", 1),
    "retries by name": (
        {"retries": {"count": 2, "errorEquals": ["PermanentStepError"]}},
        [404, 404, 200],
        "COMPLETED",
        3,
    ),
    "tries of the sub-flow's step are enough": ({}, [503, 503, 200], "COMPLETED", 3),
    "tries of the sub-flow's step are not multiplied": ({}, [503], "FAILED", 5),
    "retries after them": ({"retries": {"count": 1}}, [503] * 6 + [200], "COMPLETED", 7),
}


@pytest.mark.parametrize(("on_error", "statuses", "status", "requests"), HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("make", [sub_flow, start_flow])
def test_on_error_handles_the_failure_of_a_sub_flow(make, on_error, statuses, status, requests):
    steps = {"sub": make("bad", onError=on_error), "rescue": noop()}
    if "fallbackStepInstanceId" not in on_error:
        del steps["rescue"]
    ran = run(steps, fakes=replying(*statuses), flows=library({"bad": FAILING}))
    assert ran.status == status
    assert len(ran.fakes.http.requests) == requests
    if on_error.get("continueOnFailure"):
        assert ran.outputs["sub"]["errorDetails"]["subFlow"]["failedStepInstanceId"] == "get"
    if "fallbackStepInstanceId" in on_error:
        assert ran.path == ["sub", "rescue"]


def test_a_content_error_of_a_sub_flow_is_retried_as_one():
    checked = {"get": call(URL, outputValidation={"requiredFields": ["$.data.ok"]})}
    fakes = Fakes()
    fakes.http.route("GET", URL, json_response({}), json_response({"ok": True}))
    step = sub_flow("bad", onError={"retryOnContentError": {"count": 1}})
    assert run({"sub": step}, fakes=fakes, flows=library({"bad": checked})).status == "COMPLETED"


def test_the_steps_of_a_sub_flow_have_a_time_limit_but_it_has_none():
    slow = {
        "first": compose(delay={"milliseconds": 5, "position": "before"}, **then("get")),
        "get": call(URL),
    }

    class Hanging:
        async def request(self, *args, **kwargs):
            await asyncio.sleep(3600)

        async def close(self):
            pass

    ran = run(
        {"sub": sub_flow("slow")},
        flows=library({"slow": slow}),
        http=Hanging(),
        settings=EngineSettings(step_timeout_seconds=0.05, transient_tries=1),
    )
    assert ran.error["errorName"] == "StepTimeoutError"
    assert ran.error["errorMessage"].startswith("Step get timed out after 0.05 s.")
    assert ran.error["isRetryable"] is True


def test_recursion_ends_at_the_limit():
    flows = library({"a": {"b": sub_flow("b")}, "b": {"a": sub_flow("a")}})
    ran = run({"sub": sub_flow("a")}, flows=flows)
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"] == (
        "Step a: flows are nested more than 50 deep, with flow 'a' as the next. If flows run or start each "
        "other, a condition must end that."
    )
    assert ran.error["errorDetails"]["maxDepth"] == 50


def test_a_recursion_that_a_condition_ends_runs():
    down = compose(
        literals={"n": "$.n"},
        inputMappings={"n": "$.n"},
        transitions=[{"condition": "$.rest.length > 0", "nextStepInstanceId": "next"}],
    )
    flows = library({"tree": {"down": down, "next": sub_flow("tree", inputMappings={"rest": "$.rest[1:]"})}})
    ran = run({"sub": sub_flow("tree", inputMappings={"rest": "$.rest"})}, {"rest": [1, 2, 3]}, flows=flows)
    depth, level = 0, ran.outputs["sub"]
    while "next" in level["steps_output"]:
        depth, level = depth + 1, level["steps_output"]["next"]
    assert (ran.status, depth) == ("COMPLETED", 3)


def test_a_payload_that_does_not_fit_the_schema_of_the_sub_flow_says_so():
    schema = {"type": "object", "properties": {"net": {"type": "number"}}, "required": ["net"]}
    flows = library({"vat": VAT}, vat={"airflow": {"inputSchema": schema}})
    error = run({"sub": sub_flow("vat", literals={"net": "five"})}, flows=flows).error
    assert error["errorName"] == "PayloadError"
    assert error["errorMessage"].startswith(
        "Step sub cannot run flow 'vat', version 1. The payload does not match the flow's airflow.inputSchema"
    )
    assert error["errorDetails"]["subFlow"]["flowDefinitionId"] == "vat"


def test_a_step_without_a_library_says_that_there_are_no_flows():
    error = run({"sub": sub_flow("vat")}).error
    assert error["errorMessage"].startswith("Flow 'vat' cannot be run as a sub-flow")


# START_FLOW_EXECUTION

STARTS = {
    "mappings": start_flow("vat", inputMappings={"initialContextData.net": "$.total"}),
    "input": start_flow("vat", inputMappings={"net": "$.total"}),
    "config": start_flow("vat", customConfig={"initialContextData": {"net": "$.total"}}),
    "a template": start_flow("{{kind}}", inputMappings={"net": "$.total"}),
    "literals": start_flow(None, literals={"flowDefinitionId": "vat", "net": "$.total"}),
    "a version": start_flow("vat", flowVersion="{{one}}", inputMappings={"net": "$.total"}),
    "fields of a start": start_flow(
        "vat",
        literals={"net": "$.total", "flowVersion": "1", "triggerSource": "x", "enableExecutionLogs": True},
    ),
}


@pytest.mark.parametrize("step", STARTS.values(), ids=STARTS)
def test_a_flow_execution_that_waits_is_a_sub_flow(step):
    ran = run({"sub": step}, {**DATA, "kind": "vat", "one": 1}, flows=library({"vat": VAT}))
    assert ran.error is None
    assert ran.outputs["sub"]["vat"] == {"net": 5, "label": "net 5"}
    assert ran.outputs["sub"]["initialContextData"] == {"net": 5}


def test_the_step_wins_over_its_input():
    step = start_flow("vat", inputMappings={"flowDefinitionId": "$.kind", "net": "$.total"})
    assert run({"sub": step}, {**DATA, "kind": "other"}, flows=library({"vat": VAT})).status == "COMPLETED"


def test_a_flow_execution_needs_a_flow():
    error = run({"sub": start_flow("{{nothing}}")}, flows=library({})).error
    assert error["errorMessage"] == "`flowDefinitionId` is missing or empty. Name the flow to start."


# Branches


def branch(**fields):
    return {"branchId": "vat", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "vat", **fields}


BRANCHES = {
    "the whole context": ({"inputMappings": {"net": "$.currentItem"}}, {}, ["initialContextData", "vat"]),
    "a path": ({"inputMappings": {"net": "$.currentItem"}}, {"dataPath": "$.vat.net"}, 5),
    "mappings": ({"inputMappingsToSubFlow": {"net": "$.currentItem"}}, {"dataPath": "$.vat.net"}, 5),
    "literals": ({"literals": {"net": "{{currentItem}}"}}, {"dataPath": "$.vat.label"}, "net 5"),
    "both": (
        {"inputMappings": {"amount": "$.currentItem"}, "inputMappingsToSubFlow": {"net": "$.amount"}},
        {"dataPath": "$.vat.net"},
        5,
    ),
    "a path that only the main context has": (
        {"inputMappings": {"net": "$.currentItem"}},
        {"dataPath": "$.items"},
        None,
    ),
    "output": ({"inputMappings": {"net": "$.currentItem"}}, {"dataPath": "$.output"}, ["vat"]),
}


@pytest.mark.parametrize(("fields", "config", "expected"), BRANCHES.values(), ids=BRANCHES)
def test_a_branch_can_be_a_sub_flow(fields, config, expected):
    steps = {"fan": fork(parallelBranches=[branch(**fields)], config=config)}
    ran = run(steps, {"items": [5]}, flows=library({"vat": VAT}))
    (result,) = ran.outputs["fan"]["aggregatedData"]
    if isinstance(expected, list):
        assert set(expected) <= set(result)
        assert result["vat"]["net"] == 5
    else:
        assert result == expected


def test_the_path_to_output_finds_what_the_sub_flow_maps_there():
    flows = library({"vat": {"a": compose(inputMappings={"x": "$.net"}, outputMappings={"$.output": "$.x"})}})
    mapped = branch(inputMappings={"net": "$.currentItem"})
    steps = {"fan": fork(parallelBranches=[mapped], config={"dataPath": "$.output"})}
    assert run(steps, {"items": [1, 2]}, flows=flows).outputs["fan"]["aggregatedData"] == [1, 2]


def test_a_failed_sub_flow_fails_its_item_alone():
    steps = {"fan": fork(parallelBranches=[branch()], config={"failOnBranchError": False})}
    ran = run(steps, {"items": [5]}, fakes=replying(404), flows=library({"vat": FAILING}))
    (failure,) = ran.outputs["fan"]["aggregatedData"]
    details = failure["error"]["errorDetails"]
    assert (details["failedStepInstanceId"], details["branchId"], details["itemIndex"]) == ("vat", "vat", 0)
    assert details["subFlow"]["failedStepInstanceId"] == "get"
