"""Runs that steps start, in the database of the Airflow in this process."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from airflow_allma.common.wait_keys import hand_over_key, wait_token
from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.airflow.flows import branch, compose, flow, fork, route
from tests.support.existing_runs import run_existing, runs_of, set_dag

pytestmark = pytest.mark.airflow

_numbers = itertools.count()

LINK = "_allma_start"


@pytest.fixture
def child(deploy_child):
    """The Dag of a flow that copies ``n``, and shows what it knows about its run."""
    names = ("rootFlowExecutionId", "parentFlowExecutionId", "parentStepInstanceId", "depth", "executionKind")
    shown = {name: f"{{{{{name}}}}}" for name in (*names, "flowExecutionId", "enableExecutionLogs")}
    return deploy_child({"c": compose({"n": "$.n", "payload": "$.initialContextData"}, literals=shown)})


def start(flow_id: str, to: str | None = None, **fields: Any) -> dict[str, Any]:
    step = {"stepType": "START_FLOW_EXECUTION", "moduleIdentifier": "system/start-flow-execution"}
    step |= {"flowDefinitionId": flow_id, **fields}
    return {**step, "defaultNextStepInstanceId": to} if to else step


def test_the_run_gets_the_payload_and_knows_what_started_it(run, child):
    ended = run({"s": start(child.dag_id, literals={"n": 3})})
    assert ended.state == "success"
    output = ended.xcom("s")
    ((run_id, conf),) = runs_of(child.dag_id).items()
    assert (output["dagId"], output["runId"], output["sqsMessageId"]) == (child.dag_id, run_id, None)
    assert {key: conf[key] for key in conf if key != LINK} == {"n": 3}
    seen = run_existing(child, run_id).xcom("c")
    assert seen["n"] == 3
    assert seen["payload"] == {"triggerSource": conf[LINK]["triggerSource"], "n": 3}
    assert seen["flowExecutionId"] == output["startedFlowExecutionId"]
    assert seen["rootFlowExecutionId"] == seen["parentFlowExecutionId"] == conf[LINK]["rootId"]
    assert (seen["parentStepInstanceId"], seen["depth"], seen["executionKind"]) == ("s", "1", "ASYNC_SUBFLOW")
    assert conf[LINK]["triggerSource"].startswith("ParentFlow:")


def test_a_cleared_parent_starts_nothing_twice(run_dag, child):
    steps = {
        "s": start(child.dag_id, to="f", literals={"n": 0}),
        "f": fork(branch("b"), items="$.items"),
        "b": start(child.dag_id, inputMappings={"n": "$.currentItem"}),
    }
    parent = build_dag(Flow.model_validate(flow(f"parent-{next(_numbers)}", steps)))
    first = run_dag(parent, {"items": [1, 2, 3]})
    started = runs_of(child.dag_id)
    again = run_existing(parent, first.run_id, clear=True)
    assert (first.state, again.state) == ("success", "success")
    assert (len(started), runs_of(child.dag_id)) == (4, started)
    assert again.xcom("s") == first.xcom("s")
    assert again.task("s").try_number == 2


def test_a_chunk_and_a_loop_start_a_run_for_each_item_and_visit(run, child):
    steps = {
        "f": fork(branch("b"), items="$.items", to="l"),
        "b": start(child.dag_id, inputMappings={"n": "$.currentItem"}),
        "l": start(child.dag_id, to="again", inputMappings={"n": "$.n"}),
        "again": route(("$.transitionCounts.x > 0", "l"), to="l2"),
        "l2": route(("$.completedStepCount < 5", "l"), to="end"),
        "end": compose(),
    }
    ended = run(steps, {"items": [1, 2, 3], "n": 9}, airflow={"maxInMemoryItems": 1})
    assert ended.state == "success"
    assert sorted(conf["n"] for conf in runs_of(child.dag_id).values()) == [1, 2, 3, 9, 9]


UNKNOWN = {"flowDefinitionId": "nobody"}
REFUSED = {
    # The same name as where the flow runs in the step's process, or on the command line.
    "an unknown flow": ({}, UNKNOWN, "UnknownSubflowError", "`nobody` was not found. Check the flow"),
    "import errors": ({"has_import_errors": True}, {}, "PermanentStepError", "has import errors"),
    "run types": (
        {"allowed_run_types": ["manual"]},
        {},
        "PermanentStepError",
        "does not allow operator-triggered runs",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_flow_that_cannot_be_started_is_a_permanent_error(run, child, name):
    changes, fields, error_name, message = REFUSED[name]
    set_dag(child.dag_id, **changes)
    ended = run({"s": start(child.dag_id, onError={"continueOnFailure": True}) | fields})
    error = ended.xcom("s")
    assert (error["errorName"], error["isRetryable"]) == (error_name, False)
    assert error["errorMessage"].startswith("Step s cannot start flow ")
    assert message in error["errorMessage"]
    assert not runs_of(child.dag_id)


def test_runs_of_a_paused_dag_are_queued_with_a_warning(run, child, caplog):
    set_dag(child.dag_id, is_paused=True)
    ended = run({"s": start(child.dag_id)})
    assert (ended.state, len(runs_of(child.dag_id))) == ("success", 1)
    assert f"Dag {child.dag_id} of flow {child.dag_id} is paused; its runs are queued" in caplog.text


SCHEMA = {"type": "object", "properties": {"rows": {"type": "array"}}, "required": ["rows"]}


def test_a_payload_that_does_not_match_the_schema_is_a_payload_error(run, deploy_child):
    child = deploy_child({"c": compose()}, {"rows": []}, airflow={"inputSchema": SCHEMA})
    ended = run({"s": start(child.dag_id, literals={"rows": 1}, onError={"continueOnFailure": True})})
    assert ended.xcom("s")["errorName"] == "PayloadError"
    assert not runs_of(child.dag_id)


AWKWARD = {"text": "a\0b", "number": 2**70, "__type": 1, "deep": json.loads("[" * 70 + "]" * 70)}


@pytest.mark.parametrize(
    "payload", [{"n": 1, "z": {"b": 1, "a": [None, True]}}, AWKWARD], ids=["plain", "awkward"]
)
def test_every_payload_arrives_unchanged(run, child, payload):
    run({"s": start(child.dag_id, inputMappings={"initialContextData": "$.given"})}, {"given": payload})
    (run_id,) = runs_of(child.dag_id)
    seen = run_existing(child, run_id).xcom("c")
    seen = json.loads(seen) if isinstance(seen, str) else seen
    assert {key: value for key, value in seen["payload"].items() if key != "triggerSource"} == payload


def test_a_large_payload_travels_as_a_pointer(run, child, deploy_child, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", tmp_path.as_uri())
    rows = [{"row": number, "text": "x" * 100} for number in range(2_000)]
    steps = {"s": start(child.dag_id, inputMappings={"rows": "$.rows", "n": "$.n"})}
    run(steps, {"rows": rows, "n": 5})
    ((run_id, conf),) = runs_of(child.dag_id).items()
    assert (set(conf), conf["n"]) == ({"n", "_s3_context_pointer", LINK}, 5)
    assert run_existing(child, run_id).state == "success"
    needs_rows = deploy_child(
        {"c": compose({"count": "$.rows.length"})}, {"rows": []}, airflow={"inputSchema": SCHEMA}
    )
    steps["s"]["flowDefinitionId"] = needs_rows.dag_id
    run(steps, {"rows": rows, "n": 5})
    ((run_id, conf),) = runs_of(needs_rows.dag_id).items()
    assert len(conf["rows"]) == 2_000
    assert run_existing(needs_rows, run_id).xcom("c") == {"count": 2_000}


def test_another_version_than_the_dags_fails_in_the_run(run, child):
    run({"s": start(child.dag_id, flowVersion="2")})
    (run_id,) = runs_of(child.dag_id)
    ended = run_existing(child, run_id)
    assert ended.state == "failed"
    assert "asks for version 2 of flow" in ended.xcom("c", key="allma_error")["errorMessage"]


def test_the_start_can_give_the_run_an_id_and_execution_logs(run, child):
    given = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    fields = {"flowExecutionId": given, "enableExecutionLogs": True}
    ended = run({"s": start(child.dag_id, literals=fields)})
    assert ended.xcom("s")["startedFlowExecutionId"] == given
    seen = run_existing(child, f"allma__{given}").xcom("c")
    assert (seen["flowExecutionId"], seen["enableExecutionLogs"]) == (given, "true")


def test_the_end_of_a_run_delivers_the_event_for_which_its_parent_waits(run, run_dag, child):
    payload = {"n": 3, "_flow_resume_key": "order:7"}
    run({"s": start(child.dag_id, literals=payload)})
    (run_id,) = runs_of(child.dag_id)
    event = run_existing(child, run_id).xcom("c", key=hand_over_key(wait_token("order:7")))
    event = json.loads(event) if isinstance(event, str) else event
    assert event["key"] == "order:7"
    assert event["payload"]["steps_output"]["c"]["n"] == 3
    by_a_user = run_dag(child, payload)
    assert by_a_user.state == "success"
    assert not [key for _, _, key in by_a_user.xcoms if key.startswith("allma_resume")]


def test_a_payload_that_a_user_writes_cannot_say_what_started_the_run(run_dag, child):
    link = {
        "rootId": "r",
        "parentId": "p",
        "parentStep": "s",
        "depth": 7,
        "kind": "SYNC_SUBFLOW",
        "dagId": "d",
        "runId": "x",
        "taskId": "t",
        "flowExecutionId": "mine",
    }
    seen = run_dag(child, {"n": 1, LINK: link}).xcom("c")
    assert (seen["depth"], seen["executionKind"], seen["payload"]) == ("0", "ROOT", {"n": 1})
    assert seen["flowExecutionId"] != "mine"
