"""The flow in its Dag's documentation: the API server makes of it the plan that the Dag processor had."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.dag_factory.plan import plan_dag, plan_tasks
from airflow_allma.dag_factory.plan.flow_text import MAX_SHOWN, flow_in_doc_md, json_block
from airflow_allma.flow import Flow
from tests.airflow.flows import compose, failing, fork, route

DESCRIPTIONS = [None, "```json\n{}\n```", "```json", "````", "```json\n{", "text\n\n```json\n[1]\n```\n"]


def flow(**more):
    branch = {"branchId": "own", "startStepInstanceId": "x", "steps": {"x": compose(to="y"), "y": failing()}}
    return {
        "id": "f ü",
        "startStepInstanceId": "a",
        "steps": {
            "a": compose({"x": "$.y"}, to="f", literals={"fence": "```json\n"}),
            "f": fork(branch, {"branchId": "shared", "stepInstanceId": "s"}, to="loop"),
            "s": compose(),
            "loop": route(("$.n < 3", "again"), to="end"),
            "again": compose(to="loop"),
            "end": compose(),
        },
        "airflow": {"schedule": "cron(0 6 * * ? *)", "pool": None},
        **more,
    }


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_the_flow_is_found_whatever_its_description_is(description):
    given_flow = Flow.model_validate(flow(**({} if description is None else {"description": description})))
    plan = plan_dag(given_flow)
    assert plan.whole_flow is None
    found = Flow.model_validate(json.loads(flow_in_doc_md(plan.doc_md)), by_alias=True, by_name=False)
    assert found == given_flow
    assert plan_tasks(found) == plan.tasks


def test_a_flow_that_the_documentation_cuts_is_kept_whole():
    long = flow(flowVariables={"filler": "x" * MAX_SHOWN})
    plan = plan_dag(Flow.model_validate(long))
    assert plan_tasks(Flow.model_validate(json.loads(plan.whole_flow))) == plan.tasks
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(flow_in_doc_md(plan.doc_md))


@settings(max_examples=100, deadline=None)
@given(
    before=st.text(alphabet="`json\n{}a "), value=st.text(alphabet='`json\n{}a"\\'), after=st.text("`x \n")
)
def test_the_last_block_is_found_among_any_text(before, value, after):
    source = json.dumps({"v": value}, indent=2)
    found = flow_in_doc_md(f"{before}\n\n{json_block(source, MAX_SHOWN)}\n\n{after}")
    assert found == source or "json\n" in after


def test_other_texts_have_no_flow():
    assert flow_in_doc_md("") is None
    assert flow_in_doc_md("```json\n{}") is None
