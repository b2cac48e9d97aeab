"""Forks of flows as Dags, run in this process with dag.test()."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow.flows import branch, compose, failing, fork, route

pytestmark = pytest.mark.airflow

ITEMS = [{"id": "p1", "v": 1}, {"id": "p2", "v": 2}, {"id": "p3", "v": 3}]
VALUE = {"v": "$.currentItem.v"}


def fork_steps(*branches: Any, to: str | None = None, **more: Any) -> dict[str, Any]:
    return {"f": fork(*(branches or [branch("w")]), to=to, **more)}


def test_an_in_memory_fork_shows_each_item_with_its_label(run):
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
def test_a_fork_over_an_empty_list_runs_no_branch_and_the_flow_continues(run, config, expected, payload):
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
        ({"toleratedFailureCount": 1}, "success"),
        ({"toleratedFailurePercentage": 34, "toleratedFailureCount": 0}, "failed"),
    ],
)
def test_failed_items_are_tolerated_as_configured(run, config, state):
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


def test_a_fallback_inside_a_branch_runs_for_its_item_only(run):
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


def test_a_limit_below_the_number_of_branches_is_enforced_in_one_process(run):
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


def test_a_failed_fork_continues_according_to_its_own_on_error(run):
    steps = fork_steps(to="z", onError={"fallbackStepInstanceId": "rescue"}) | {
        "w": failing(),
        "z": compose(),
        "rescue": compose({"ok": "$.initialContextData.ok"}),
    }
    ended = run(steps, {"items": [1], "ok": True})
    assert ended.state == "success"
    assert ended.task("z").state == "skipped"
    assert ended.xcom("rescue") == {"ok": True}


def test_missing_items_fail_the_fork_like_any_step(run):
    steps = {
        "f": fork(branch("w"), items="$.initialContextData.p", to="z", onError={"continueOnFailure": True}),
        "w": compose(),
        "z": compose({"error": "$.steps_output.f.errorMessage"}),
    }
    pointer = {"_s3_output_pointer": {"bucket": "no-such-bucket", "key": "k.jsonl"}}
    ended = run(steps, {"p": pointer})
    assert ended.state == "success"
    assert "aws_conn_id" in ended.xcom("z")["error"]


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
