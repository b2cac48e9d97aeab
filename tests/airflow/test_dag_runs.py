"""Flows as Dags, run in this process with dag.test()."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from tests.airflow.flows import branch, compose, failing, flow, fork, route
from tests.support.airflow import RunResult

pytestmark = pytest.mark.airflow

_numbers = itertools.count()


@pytest.fixture
def run(run_dag):
    """Run a flow of these steps; the first one starts it."""
    from airflow_allma.dag_factory import build_dag
    from airflow_allma.flow import Flow

    def run_steps(
        steps: Mapping[str, Any], payload: Mapping[str, Any] | None = None, **more: Any
    ) -> RunResult:
        written = flow(f"run-{next(_numbers)}", dict(steps), **more)
        return run_dag(build_dag(Flow.model_validate(written)), payload)

    return run_steps


def test_a_step_returns_its_output_and_the_next_one_sees_it(run):
    ended = run(
        {"a": compose({"x": "$.initialContextData.n"}, to="b"), "b": compose({"y": "$.steps_output.a.x"})},
        {"n": 7},
    )
    assert ended.state == "success"
    assert ended.xcom("a") == {"x": 7}
    assert ended.xcom("b") == {"y": 7}


def test_only_the_chosen_way_runs_and_the_ways_join_again(run):
    steps = {
        "a": route(("$.n > 5", "big"), to="small"),
        "big": compose({"took": "$.n"}, to="end"),
        "small": compose({"took": "$.n"}, to="end"),
        "end": compose({"big": "$.steps_output.big.took", "small": "$.steps_output.small.took"}),
    }
    ended = run(steps, {"n": 7})
    assert ended.task("small").state == "skipped"
    assert ended.xcom("end") == {"big": 7}


def test_a_way_that_is_not_taken_is_skipped_to_its_end(run):
    steps = {
        "a": route(("$.n > 5", "b")),
        "b": compose(to="c"),
        "c": fork(branch("w"), to="d"),
        "w": compose(),
        "d": compose(),
    }
    ended = run(steps, {"n": 1})
    assert ended.state == "success"
    assert {task.state for task in ended.tasks if task.task_id != "a"} == {"skipped"}


def test_a_loop_runs_in_one_task_until_it_is_left(run):
    steps = {
        "a": compose({"n": "$.initialContextData.n"}, to="b", outputMappings={"$.list": "$.n"}),
        "b": route(("$.list.length < 3", "c"), to="d"),
        "c": {
            **compose({"list": "$.list"}, to="b"),
            "moduleIdentifier": "system/compose-object-from-input",
            "literals": {"list": [1, 2, 3]},
            "outputMappings": {"$.list": "$.list"},
        },
        "d": compose({"n": "$.list.length"}),
    }
    ended = run(steps, {"n": [1]})
    assert {task.task_id for task in ended.tasks} == {"a", "b", "d"}
    assert ended.xcom("d") == {"n": 3}


def test_a_failed_step_goes_on_at_its_fallback(run):
    steps = {
        "a": failing(to="b", onError={"fallbackStepInstanceId": "rescue"}),
        "b": compose(),
        "rescue": compose({"ok": "$.initialContextData.n"}),
    }
    ended = run(steps, {"n": 1})
    assert (ended.state, ended.task("a").state, ended.task("b").state) == ("success", "success", "skipped")
    assert ended.xcom("rescue") == {"ok": 1}


def test_a_failed_step_may_go_on_with_the_error_as_its_output(run):
    ended = run(
        {
            "a": failing(to="b", onError={"continueOnFailure": True}),
            "b": compose({"e": "$.steps_output.a.errorName"}),
        }
    )
    assert ended.state == "success"
    assert ended.xcom("b") == {"e": "PermanentStepError"}


def test_a_failed_step_fails_the_run_and_leaves_its_error(run):
    ended = run({"a": failing(to="b"), "b": compose()})
    assert (ended.state, ended.task("a").state, ended.task("b").state) == (
        "failed",
        "failed",
        "upstream_failed",
    )
    assert ended.xcom("a", key="allma_error")["errorName"] == "PermanentStepError"


ITEMS = [{"id": "p1", "v": 1}, {"id": "p2", "v": 2}, {"id": "p3", "v": 3}]
VALUE = {"v": "$.currentItem.v"}


def fork_steps(*branches: Any, to: str | None = None, **more: Any) -> dict[str, Any]:
    return {"f": fork(*(branches or [branch("w")]), to=to, **more)}


def test_an_in_memory_fork_runs_each_item_under_its_label(run):
    steps = fork_steps() | {"w": compose(VALUE, to="x"), "x": compose({"v": "$.steps_output.w.v"})}
    ended = run(steps, {"items": ITEMS})
    assert ended.state == "success"
    assert ended.labels("f.b.x") == {0: "p1", 1: "p2", 2: "p3"}
    assert ended.xcom("f.b.w", 1) == {"v": 2}
    assert ended.xcom("f.aggregate") == {"aggregatedData": [{"v": 1}, {"v": 2}, {"v": 3}]}
    assert ended.task("f.chunk").state == "skipped"


@pytest.mark.parametrize(
    ("config", "expected"),
    [({"strategy": "MERGE_OBJECTS"}, {}), ({"strategy": "SUM"}, 0), ({"strategy": "NONE"}, None), ({}, [])],
)
@pytest.mark.parametrize("payload", [{"items": []}, {"items": None}, {}])
def test_a_fork_over_nothing_runs_no_branch_and_the_flow_goes_on(run, config, expected, payload):
    steps = fork_steps(to="z", **config) | {
        "w": compose(VALUE),
        "z": compose({"d": "$.steps_output.f.aggregatedData"}),
    }
    ended = run(steps, payload)
    assert ended.state == "success"
    assert ended.task("f.b.w").state == "skipped"
    assert ended.xcom("f.aggregate")["aggregatedData"] == expected


def test_one_value_is_one_item(run):
    ended = run(fork_steps() | {"w": compose({"n": "$.currentItem"})}, {"items": 5})
    assert ended.xcom("f.aggregate") == {"aggregatedData": [{"n": 5}]}


def test_a_failed_item_fails_the_fork_after_all_items_have_ended(run):
    steps = fork_steps() | {
        "w": route(("$.currentItem.v == 2", "bad"), to="x"),
        "x": compose(VALUE),
        "bad": failing(),
    }
    ended = run(steps, {"items": ITEMS})
    assert ended.state == "failed"
    assert ended.states("f.b.x") == {0: "success", 1: "skipped", 2: "success"}
    assert ended.states("f.b.bad") == {0: "skipped", 1: "failed", 2: "skipped"}
    error = ended.xcom("f.aggregate", key="allma_error")
    assert error["errorName"] == "ParallelBranchExecutionError"
    assert "1 of 3" in error["errorMessage"]


@pytest.mark.parametrize(
    ("config", "state"),
    [
        ({"failOnBranchError": False}, "success"),
        ({"toleratedFailurePercentage": 34}, "success"),
        ({"toleratedFailurePercentage": 33}, "failed"),
    ],
)
def test_failed_items_are_tolerated_as_far_as_the_flow_says(run, config, state):
    steps = fork_steps(**config) | {
        "w": route(("$.currentItem.v == 2", "bad"), to="x"),
        "x": compose(VALUE),
        "bad": failing(),
    }
    ended = run(steps, {"items": ITEMS})
    assert ended.state == state
    if state == "success":
        data = ended.xcom("f.aggregate")["aggregatedData"]
        assert [data[0], data[2]] == [{"v": 1}, {"v": 3}]
        assert data[1]["branchId"] == "b"
        assert data[1]["error"]["errorName"] == "PermanentStepError"


def test_every_branch_whose_condition_holds_runs_and_results_come_in_item_then_branch_order(run):
    steps = fork_steps(branch("w", "odd", condition="$.currentItem.v != 2"), branch("x", "all")) | {
        "w": compose({"odd": "$.currentItem.v"}),
        "x": compose({"all": "$.currentItem.v"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert ended.states("f.odd.w") == {0: "success", 1: "skipped", 2: "success"}
    assert ended.xcom("f.aggregate")["aggregatedData"] == [
        {"odd": 1}, {"all": 1}, {"all": 2}, {"odd": 3}, {"all": 3},
    ]  # fmt: skip


def test_branch_selection_first_runs_only_the_first_branch_that_applies(run):
    steps = fork_steps(
        branch("w", "odd", condition="$.currentItem.v != 2"), branch("x", "all"), branchSelection="first"
    ) | {"w": compose({"odd": "$.currentItem.v"}), "x": compose({"all": "$.currentItem.v"})}
    ended = run(steps, {"items": ITEMS})
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"odd": 1}, {"all": 2}, {"odd": 3}]


def test_a_fallback_inside_a_branch_is_taken_by_its_item_alone(run):
    steps = fork_steps() | {
        "w": route(("$.currentItem.v == 2", "bad"), to="x"),
        "bad": failing(to="x", onError={"fallbackStepInstanceId": "rescue"}),
        "x": compose(VALUE),
        "rescue": compose({"rescued": "$.currentItem.v"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert ended.state == "success"
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"v": 1}, {"rescued": 2}, {"v": 3}]


def test_a_loop_inside_a_branch_is_one_task_for_each_item(run):
    steps = fork_steps() | {
        "w": compose({"n": "$.currentItem.v"}, to="again", outputMappings={"$.n": "$.n"}),
        "again": route(("$.n < 3", "more"), to="done"),
        "more": compose(to="again", literals={"n": 3}, outputMappings={"$.n": "$.n"}),
        "done": compose({"n": "$.n"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert {task.task_id for task in ended.tasks if task.task_id.startswith("f.b.")} == {
        "f.b.w", "f.b.again", "f.b.done",
    }  # fmt: skip
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"n": 3}] * 3


def test_a_fork_inside_a_branch_runs_in_that_branchs_task(run):
    steps = fork_steps(branch("inner")) | {
        "inner": fork(branch("w"), items="$.currentItem.list", to="x"),
        "w": compose({"n": "$.currentItem"}),
        "x": compose({"all": "$.steps_output.inner.aggregatedData"}),
    }
    ended = run(steps, {"items": [{"list": [1, 2]}, {"list": []}]})
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"all": [{"n": 1}, {"n": 2}]}, {"all": []}]


def test_a_fork_inside_a_loop_runs_in_the_loops_task(run):
    steps = {
        "f": fork(branch("w"), to="again", outputMappings={"$.found": "$.aggregatedData"}),
        "w": compose({"n": "$.currentItem"}),
        "again": route(("$.rounds == undefined", "mark"), to="end"),
        "mark": compose(to="f", literals={"rounds": 1}, outputMappings={"$.rounds": "$.rounds"}),
        "end": compose({"found": "$.found"}),
    }
    ended = run(steps, {"items": [1, 2]})
    assert {task.task_id for task in ended.tasks} == {"f", "end"}
    assert ended.xcom("end") == {"found": [{"n": 1}, {"n": 2}]}


def test_a_fork_with_a_concurrency_limit_runs_each_branch_as_one_task(run):
    steps = fork_steps(maxConcurrency=2) | {
        "w": compose(VALUE, to="x"),
        "x": compose({"v": "$.steps_output.w.v"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert {task.task_id for task in ended.tasks} == {
        "f.items",
        "f.b.w",
        "f.chunks",
        "f.chunk",
        "f.aggregate",
    }
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"v": 1}, {"v": 2}, {"v": 3}]


def test_a_limit_below_the_number_of_branches_is_kept_in_one_process(run):
    steps = fork_steps(branch("w", "b"), branch("w", "c"), maxConcurrency=1) | {"w": compose(VALUE)}
    ended = run(steps, {"items": ITEMS})
    assert ended.states("f.chunk") == {0: "success"}
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"v": n} for n in (1, 1, 2, 2, 3, 3)]


def test_a_list_that_is_too_long_runs_in_chunks_with_their_items_as_labels(run):
    steps = fork_steps() | {"w": compose({"n": "$.currentItem"})}
    ended = run(steps, {"items": list(range(10))}, airflow={"maxInMemoryItems": 4})
    assert ended.state == "success"
    assert ended.labels("f.chunk") == {0: "items 0-2", 1: "items 3-5", 2: "items 6-9"}
    assert ended.task("f.b.w").state == "skipped"
    assert ended.xcom("f.aggregate")["aggregatedData"] == [{"n": n} for n in range(10)]


def test_failed_items_of_a_chunk_show_in_its_label_and_fail_the_fork(run):
    steps = fork_steps() | {
        "w": route(("$.currentItem == 5", "bad"), to="x"),
        "x": compose(),
        "bad": failing(),
    }
    ended = run(steps, {"items": list(range(10))}, airflow={"maxInMemoryItems": 4})
    assert ended.state == "failed"
    assert ended.labels("f.chunk") == {0: "items 0-2", 1: "items 3-5, 1 failed", 2: "items 6-9"}
    assert ended.states("f.chunk") == {0: "success", 1: "failed", 2: "success"}
    assert "1 of 10" in ended.xcom("f.aggregate", key="allma_error")["errorMessage"]


def test_a_failed_fork_goes_on_as_its_own_on_error_says(run):
    steps = fork_steps(to="z", onError={"fallbackStepInstanceId": "rescue"}) | {
        "w": failing(),
        "z": compose(),
        "rescue": compose({"ok": "$.initialContextData.ok"}),
    }
    ended = run(steps, {"items": [1], "ok": True})
    assert ended.state == "success"
    assert ended.task("z").state == "skipped"
    assert ended.xcom("rescue") == {"ok": True}


def test_items_that_cannot_be_found_fail_the_fork_like_any_step(run):
    steps = {
        "f": fork(branch("w"), items="$.initialContextData.p", to="z", onError={"continueOnFailure": True}),
        "w": compose(),
        "z": compose({"error": "$.steps_output.f.errorMessage"}),
    }
    pointer = {"_s3_output_pointer": {"bucket": "no-such-bucket", "key": "k.jsonl"}}
    ended = run(steps, {"p": pointer})
    assert ended.state == "success"
    assert "aws_conn_id" in ended.xcom("z")["error"]


def test_data_that_airflow_would_misread_arrives_unchanged(run):
    odd = {"__classname__": "x", "__type": "y", "t": "{{ 1 + 1 }}", "big": 2**70}
    ended = run(
        {
            "a": compose({"x": "$.initialContextData.odd"}, to="f"),
            "f": fork(branch("w"), items="$.steps_output.a.x"),
            "w": compose({"i": "$.currentItem"}),
        },
        {"odd": odd},
    )
    assert ended.state == "success"
    # pushed as JSON text, which the database shows as what it holds
    assert ended.xcom("f.aggregate") == {"aggregatedData": [{"i": odd}]}


def test_tries_of_a_step_are_tries_of_its_task(run):
    steps = {"a": failing(onError={"retries": {"count": 2, "intervalSeconds": 1}})}
    # a PermanentStepError is never tried again
    assert run(steps).task("a").try_number == 1


def test_a_retryable_error_is_tried_again_by_airflow_with_the_flows_own_wait(run):
    steps = {
        "a": compose(
            outputValidation={"requiredFields": ["$.missing"]},
            onError={
                "retries": {"count": 2, "intervalSeconds": 1, "backoffRate": 1},
                "fallbackStepInstanceId": "b",
            },
        ),
        "b": compose({"n": "$.initialContextData.n"}),
    }
    ended = run(steps, {"n": 1})
    assert ended.state == "success"
    assert ended.task("a").try_number == 3
    assert ended.xcom("b") == {"n": 1}


def test_errors_that_error_equals_does_not_name_are_not_tried_again(run):
    steps = {
        "a": compose(
            outputValidation={"requiredFields": ["$.missing"]},
            onError={"retries": {"count": 2, "intervalSeconds": 1, "errorEquals": ["TransientStepError"]}},
        )
    }
    ended = run(steps)
    assert (ended.state, ended.task("a").try_number) == ("failed", 1)


def test_large_values_travel_through_the_offload_location(run, tmp_path):
    steps = {
        "a": compose({"x": "$.initialContextData.text"}, to="f"),
        "f": fork(branch("w"), to="z"),
        "w": compose({"n": "$.currentItem"}),
        "z": compose(
            {"data": "$.steps_output.f.aggregatedData", "text": "$.steps_output.a.x"}, disableS3Offload=True
        ),
    }
    ended = run(
        steps,
        {"items": list(range(50)), "text": "x" * 200_000},
        airflow={"offloadLocation": f"file://{tmp_path}", "maxInMemoryItems": 10},
    )
    assert ended.state == "success"
    assert "_s3_output_pointer" in ended.xcom("a")
    assert "stored" in ended.xcom("f.items", key="allma_state")
    assert ended.xcom("f.aggregate") == {"aggregatedData": [{"n": n} for n in range(50)]}


def test_a_manifest_runs_in_chunks_and_a_bad_line_fails_alone(run, tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(f'{{"n": {n}}}\n' if n != 7 else "{oops\n" for n in range(40)))
    steps = fork_steps(failOnBranchError=False, items="$.initialContextData.p") | {
        "w": compose({"n": "$.currentItem.n"})
    }
    ended = run(
        steps,
        {"p": {"_s3_output_pointer": {"bucket": "file://", "key": str(manifest).lstrip("/")}}},
        airflow={"offloadLocation": f"file://{tmp_path}", "chunkBytes": 100},
    )
    assert ended.state == "success"
    assert ended.labels("f.chunk")[0].startswith("items 0-")
    data = ended.xcom("f.aggregate")["aggregatedData"]
    assert [one.get("n") for one in data] == [n if n != 7 else None for n in range(40)]
    assert "Line 8" in data[7]["error"]["errorMessage"]
