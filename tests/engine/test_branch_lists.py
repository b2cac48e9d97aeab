"""Branches whose steps are a list, and the two walk-throughs that write their branches so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import FLOW_CHECKS
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import COMPOSE, Fakes, call, compose, end, fork, noop, run

ITEM = {"inputMappings": {"item": "$.currentItem"}}


def listed(step_id, step=None, **fields):
    return {"stepInstanceId": step_id, **(step or noop()), **fields}


def forked(own, start="one", **fields):
    branch = {"branchId": "b", "stepInstanceId": start, "steps": own}
    return fork(parallelBranches=[branch], **fields)


def steps_that_ran(own, start="one", flow=None):
    ran = run({"fan": forked(own, start), "rescue": noop()}, {"items": [1]}, flow=flow)
    return [record.step_id for record in ran.fakes.records if record.step_id != "fan"]


def warnings(own, start="one"):
    checked = check_flow(
        {"id": "f", "startStepInstanceId": "fan", "steps": {"fan": forked(own, start)}}, checks=FLOW_CHECKS
    )
    assert checked.flow is not None
    return {one.path[-1]: one.message for one in checked.diagnostics if one.path[-2:-1] == ("steps",)}


ONE, TWO, THREE = listed("one"), listed("two"), listed("three")


@pytest.mark.parametrize(
    ("own", "start", "ran", "unreached"),
    [
        # no step names another: the order of the list
        ([ONE], "one", ["one"], []),
        ([ONE, TWO, THREE], "one", ["one", "two", "three"], []),
        ([ONE, TWO, THREE], "two", ["two", "three"], [0]),
        ([listed("one", transitions=[]), TWO], "one", ["one", "two"], []),
        ([listed("one", defaultNextStepInstanceId=None), TWO], "one", ["one", "two"], []),
        ([listed("one", onError={"continueOnFailure": True}), TWO], "one", ["one", "two"], []),
        ([ONE, listed("two", end()), THREE], "one", ["one", "two"], [2]),
        # one step names another: nothing is implied
        ([listed("one", defaultNextStepInstanceId="three"), TWO, THREE], "one", ["one", "three"], [1]),
        ([ONE, listed("two", defaultNextStepInstanceId="three"), THREE], "one", ["one"], [1, 2]),
        (
            [
                listed("one", transitions=[{"condition": "$.no", "nextStepInstanceId": "two"}]),
                TWO,
                THREE,
            ],
            "one",
            ["one"],
            [2],
        ),
        ([listed("one", onError={"fallbackStepInstanceId": "two"}), TWO, THREE], "one", ["one"], [2]),
        # a map has no order
        ({"one": noop(), "two": noop()}, "one", ["one"], ["two"]),
    ],
)
def test_a_list_runs_in_its_order_unless_a_step_names_another(own, start, ran, unreached):
    assert steps_that_ran(own, start) == ran
    assert list(warnings(own, start)) == unreached


def test_the_warning_names_the_field_to_write_and_the_step_before():
    own = [listed("one", onError={"fallbackStepInstanceId": "two"}), TWO, THREE]
    (message,) = warnings(own).values()
    assert "set `defaultNextStepInstanceId` to `three` in the step that comes before it" in message
    assert "such as `two`" in message


def test_a_fallback_that_the_flow_sets_for_all_steps_does_not_end_the_order():
    flow = {"defaultStepConfig": {"defaultErrorHandler": {"fallbackStepInstanceId": "rescue"}}}
    assert steps_that_ran([ONE, TWO], flow=flow) == ["one", "two"]


def test_a_fork_in_a_list_that_starts_at_a_step_of_the_list_names_that_step():
    inner = listed("one", fork("work", "$.list"))
    assert steps_that_ran([inner, listed("work", compose(**ITEM))]) == ["one"]


def test_a_list_inside_the_branch_of_a_list_has_its_own_order():
    inner = listed("one", forked([listed("a"), listed("b")], "a", itemsPath="$.currentItem"))
    ran = run({"fan": forked([inner, TWO])}, {"items": [[1, 2]]})
    assert [record.step_id for record in ran.fakes.records] == ["a", "b", "a", "b", "one", "two", "fan"]


@given(st.permutations(["one", "two", "three", "four"]), st.integers(0, 3))
def test_the_steps_from_the_first_one_to_the_end_run_in_order(names, start):
    assert steps_that_ran([listed(name) for name in names], names[start]) == names[start:]


DETAILS = listed(
    "get_product_details",
    call("https://api.yourstore.com/products/{{currentItem.id}}"),
    displayName="Get product details",
)
FORMAT = listed(
    "format_output",
    {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": COMPOSE,
        "inputMappings": {
            "id": "$.currentItem.id",
            "name": "$.steps_output.get_product_details.data.productName",
            "price": "$.steps_output.get_product_details.data.price",
        },
    },
)


@pytest.mark.parametrize("start", ["stepInstanceId", "startStepInstanceId", "startStep"])
def test_the_walk_through_of_products_runs_as_written(start):
    fan = {
        "stepType": "PARALLEL_FORK_MANAGER",
        "displayName": "Process Products in Parallel",
        "itemsPath": "$.initialContextData.productIds",
        "parallelBranches": [
            {
                "branchId": "process_product_branch",
                start: "get_product_details",
                "steps": [DETAILS, FORMAT],
            }
        ],
        "aggregationConfig": {"strategy": "COLLECT_ARRAY", "dataPath": "$."},
        "outputMappings": {"$.steps_output.processed_products": "$.aggregatedData"},
    }
    http = FakeHttpClient()
    for number in (101, 102, 103):
        reply = json_response({"productName": f"P{number}", "price": number / 2})
        http.route("GET", f"https://api.yourstore.com/products/{number}", reply)
    payload = {"productIds": [{"id": 101}, {"id": 102}, {"id": 103}]}
    ran = run({"process_products": fan}, payload, fakes=Fakes(http))
    assert ran.outputs["processed_products"] == [
        {"id": number, "name": f"P{number}", "price": number / 2} for number in (101, 102, 103)
    ]


def test_the_walk_through_of_a_manifest_runs_as_written():
    manifest = Pointer("my-data-bucket", "manifests/users.jsonl")
    users = [
        {"userId": "user-a", "region": "us-east-1"},
        {"userId": "user-b", "region": "eu-west-1"},
        {"userId": "user-c", "region": "us-east-1"},
    ]
    store = MemoryStore()
    store.write(manifest, b"".join(json.dumps(user).encode() + b"\n" for user in users))
    http = FakeHttpClient()
    for user in users:
        url = f"https://api.test/users/{user['userId']}"
        http.route("GET", url, json_response({"plan": f"plan of {user['userId']}"}))
    enrich = [
        listed("get_user", call("https://api.test/users/{{currentItem.userId}}")),
        listed(
            "format_output",
            compose(inputMappings={"user": "$.currentItem", "plan": "$.steps_output.get_user.data.plan"}),
        ),
    ]
    steps = {
        "generate_manifest": compose(
            literals={"manifest": manifest.wrap()}, defaultNextStepInstanceId="enrich"
        ),
        "enrich": {
            **fork(items="$.steps_output.generate_manifest.manifest"),
            "parallelBranches": [{"branchId": "enrich_user", "startStep": "get_user", "steps": enrich}],
            "aggregationConfig": {"strategy": "COLLECT_ARRAY", "dataPath": "$."},
            "outputMappings": {"$.steps_output.enriched": "$.aggregatedData"},
        },
    }
    ran = run(steps, {}, fakes=Fakes(http), store=store)
    assert ran.outputs["enriched"] == [{"user": user, "plan": f"plan of {user['userId']}"} for user in users]
