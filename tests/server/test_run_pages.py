"""What the page of a run shows: steps, forks, and that some runs are not those of a flow."""

from __future__ import annotations

import json

import pytest

from tests.airflow.flows import compose, failing, fork, route

pytestmark = pytest.mark.airflow

NOT_REACHED = "The run did not reach this fork."
ITEMS = [{"id": number} for number in range(3)]


def one_fork(name, *steps, **more):
    return {
        "id": name,
        "startStepInstanceId": "first",
        "steps": {
            "first": compose(to="fork"),
            "fork": fork({"branchId": "b", "stepInstanceId": "each"}, to="last", **more),
            "each": steps[0] if steps else compose(),
            "last": compose(),
        },
    }


def test_a_run_shows_the_state_of_each_step(pages):
    ran = pages.run(one_fork("run-states"), {"items": ITEMS})
    assert ran.state == "success"
    found = pages.get(f"/dags/run-states/runs/{ran.run_id}")
    assert {name: found[name] for name in ("isFlow", "flowId", "version", "state", "isRunning")} == {
        "isFlow": True,
        "flowId": "run-states",
        "version": 1,
        "state": "success",
        "isRunning": False,
    }
    states = {step: (one["state"], one["counts"]) for step, one in found["steps"].items()}
    assert states["first"] == ("success", {"success": 1})
    assert states["each"] == ("success", {"success": 3})
    assert states["fork"][0] == "success"
    assert found["steps"]["first"]["seconds"] >= 0
    (summary,) = found["forks"]
    assert summary == pages.get(f"/dags/run-states/runs/{ran.run_id}/forks/fork")
    expected = {"fork": "fork", "mode": "memory", "items": 3, "ended": 3, "succeeded": 3, "failed": 0}
    assert expected.items() <= summary.items()
    assert summary["branches"] == ["b"]


def test_failed_items_are_counted(pages):
    ran = pages.run(one_fork("run-failed", failing()), {"items": ITEMS})
    summary = pages.get(f"/dags/run-failed/runs/{ran.run_id}/forks/fork")
    assert (summary["failed"], summary["succeeded"], summary["ended"]) == (3, 0, 3)


def unreached(name, first):
    steps = {
        "first": first,
        "fork": fork({"branchId": "b", "stepInstanceId": "each"}, to="last"),
        "each": compose(),
        "last": compose(),
    }
    return {"id": name, "startStepInstanceId": "first", "steps": steps}


@pytest.mark.parametrize(
    ("name", "first", "payload", "no_items"),
    [
        ("unreached-failed", failing("fork"), {}, {"state": "skipped", "reason": NOT_REACHED}),
        (
            "unreached-skipped",
            route(("1 == 2", "fork"), to="last"),
            {},
            {"state": "skipped", "reason": NOT_REACHED},
        ),
        (
            "unreached-no-list",
            compose(to="fork"),
            {"items": {"_s3_output_pointer": {"bucket": "b"}}},
            {"state": "failed", "reason": "The task fork.items failed before it knew the items."},
        ),
    ],
)
def test_of_a_fork_that_has_no_items_in_a_run_the_page_says_why(pages, name, first, payload, no_items):
    ran = pages.run(unreached(name, first), payload)
    path = f"/dags/{name}/runs/{ran.run_id}/forks/fork"
    assert (pages.get(path)["items"], pages.get(path)["noItems"]) == (None, no_items)
    found = pages.get(f"{path}/items")
    assert (found["rows"], found["note"]) == ([], no_items["reason"])


def test_a_dag_that_is_no_flow_says_so(pages, run_dag):
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG("no-flow", schedule=None, doc_md=json_block(one_fork("no-flow"))) as dag:
        EmptyOperator(task_id="first")
    ran = run_dag(dag)
    assert pages.get(f"/dags/no-flow/runs/{ran.run_id}") == {"isFlow": False}
    answer = pages.ask(f"/dags/no-flow/runs/{ran.run_id}/forks/fork")
    assert answer.status_code == 404
    assert "not made from an Allma flow" in answer.json()["detail"]


def json_block(flow):
    return f"```json\n{json.dumps(flow)}\n```"


def test_what_does_not_exist_is_404_with_a_sentence(pages):
    ran = pages.run(one_fork("run-missing"), {"items": []})
    for path, reason in (
        ("/dags/run-missing/runs/none", "no run 'none'"),
        ("/dags/none/runs/none", "no run"),
        (f"/dags/run-missing/runs/{ran.run_id}/forks/first", "no fork 'first'"),
    ):
        answer = pages.ask(path)
        assert answer.status_code == 404, path
        assert reason in answer.json()["detail"]


def test_a_flow_too_long_for_the_documentation_is_known_whole(pages):
    flow = one_fork("run-long")
    flow["steps"]["first"]["customConfig"] = {"filler": "é" * 70_000}
    ran = pages.run(flow, {"items": ITEMS})
    found = pages.get(f"/dags/run-long/runs/{ran.run_id}")
    assert found["steps"].keys() == {"first", "fork", "each", "last"}


def test_an_ordinary_flow_is_not_in_its_dag_twice():
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_allma.dag_factory import build_dag
    from airflow_allma.flow import Flow

    serialized = json.dumps(DagSerialization.to_dict(build_dag(Flow.model_validate(one_fork("plain")))))
    assert "whole_flow" not in serialized


def test_steps_and_forks_with_any_name_are_found(pages):
    flow = one_fork("run-names")
    flow["steps"] = {"a/b?ü" if name == "fork" else name: step for name, step in flow["steps"].items()}
    flow["steps"]["first"]["defaultNextStepInstanceId"] = "a/b?ü"
    ran = pages.run(flow, {"items": ITEMS})
    by_step = pages.get(f"/dags/run-names/runs/{ran.run_id}/forks/a%2Fb%3F%C3%BC")
    assert by_step["items"] == 3
