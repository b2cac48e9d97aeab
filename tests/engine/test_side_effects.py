"""The steps that do not run again by themselves after they were lost."""

from __future__ import annotations

import pytest

from airflow_allma.engine import compile_flow, unrepeatable_steps
from airflow_allma.engine.modules import MODULES
from airflow_allma.flow import Flow
from tests.airflow.flows import branch, compose, flow, fork, route
from tests.support.sub_flows import library, start_flow, sub_flow


def call(method, **more):
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": method,
        "apiUrlTemplate": {"template": "http://127.0.0.1:9/x"},
        **more,
    }


def module(step_type, identifier):
    return {"stepType": step_type, "moduleIdentifier": identifier}


def found(steps, *names):
    program = compile_flow(Flow.model_validate(flow("effects", steps)))
    return unrepeatable_steps(program, names or [next(iter(steps))])


@pytest.mark.parametrize(
    ("step", "has_side_effects"),
    [
        *((call(method), False) for method in ("GET", "HEAD", "OPTIONS")),
        *((call(method), True) for method in ("POST", "PUT", "PATCH", "DELETE")),
        (compose(), False),
        (route(), False),
        ({"stepType": "END_FLOW"}, False),
        (module("DATA_LOAD", "system/s3-data-loader"), False),
        (module("DATA_LOAD", "system/dynamodb-data-loader"), False),
        # It writes below the offload location, where the next try writes the same.
        (module("DATA_LOAD", "system/ddb-query-to-s3-manifest"), False),
        (module("DATA_SAVE", "system/s3-data-saver"), True),
        (module("DATA_LOAD", "system/s3-data-saver"), True),
        (module("DATA_LOAD", "system/sqs-get-queue-attributes"), False),
        (module("DATA_LOAD", "system/sqs-receive-messages"), True),
        (module("DATA_SAVE", "system/dynamodb-update-item"), True),
        (module("DATA_SAVE", "system/dynamodb-query-and-update"), True),
        ({"stepType": "SQS_SEND"}, True),
        ({"stepType": "SNS_PUBLISH"}, True),
        ({"stepType": "CUSTOM_LAMBDA_INVOKE", "lambdaFunctionArnTemplate": "f"}, True),
    ],
    ids=lambda value: str(value.get("apiHttpMethod") or value) if isinstance(value, dict) else "",
)
def test_a_step_has_side_effects_if_it_can_change_something_outside_of_the_flow(step, has_side_effects):
    assert found({"s": step}) == (("s",) if has_side_effects else ())


def test_every_module_that_acts_is_in_the_table():
    assert {name for name, one in MODULES.items() if one.has_side_effects} == {
        "system/dynamodb-query-and-update",
        "system/dynamodb-update-item",
        "system/s3-data-saver",
        "system/sns-publish",
        "system/sqs-receive-messages",
        "system/sqs-send",
    }


@pytest.mark.parametrize(("count", "names"), [(0, ("s",)), (1, ())])
def test_a_step_with_retries_of_its_own_can_be_repeated(count, names):
    assert found({"s": call("POST", onError={"retries": {"count": count}})}) == names


def test_steps_in_branches_of_forks_count_but_no_steps_of_other_tasks():
    steps = {
        "f": fork(branch("look"), branch("again", "c"), to="after"),
        "look": call("GET", defaultNextStepInstanceId="order"),
        "order": call("POST", defaultNextStepInstanceId="look"),
        "again": fork(branch("pay")),
        "pay": call("PUT"),
        "after": call("DELETE"),
    }
    assert found(steps, "f") == ("order", "pay")
    assert found(steps, "look", "after") == ("after",)


def test_steps_that_a_branch_defines_itself_count():
    inside = {"deep": {**call("POST"), "stepInstanceId": "deep"}}
    own = {"branchId": "b", "startStepInstanceId": "deep", "steps": inside}
    assert found({"f": {**fork(), "parallelBranches": [own]}}, "f") == ("deep",)


def test_the_steps_of_a_sub_flow_count():
    flows = library({"post": {"send": call("POST")}, "get": {"ask": call("GET")}})

    def found_in(step):
        program = compile_flow(Flow.model_validate(flow("effects", {"sub": step})))
        return unrepeatable_steps(program, ["sub"], flows)

    assert found_in(sub_flow("post")) == ("send",)
    assert found_in(sub_flow("get")) == ()
    assert found_in(sub_flow("unknown")) == ()
    assert found_in(sub_flow("post", onError={"retries": {"count": 1}})) == ()
    assert found_in(start_flow("{{any}}")) == ("sub",)
    branch_of_flow = {"branchId": "b", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "post"}
    assert found_in(fork(branch_of_flow)) == ("send",)
