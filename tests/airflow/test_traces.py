"""The traces of steps that tasks push, and those that chunks store."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_allma.operators.run_states import trace_in_state
from airflow_allma.operators.xcoms import Key
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, failing, flow, fork

pytestmark = pytest.mark.airflow

ITEMS = [{"id": "p1", "v": 1}, {"id": "p2", "v": 2, "good": 1}]
STATE, TRACE = Key.STATE.value, Key.TRACE.value


def needs_good(**more):
    """Return a step that fails for items without ``good``."""
    required = {"requiredFields": ["$.good"]}
    return compose({"good": "$.currentItem.good"}, outputValidation=required, **more)


def two_tasks(**first):
    return {
        "f": fork(branch("w"), failOnBranchError=False),
        "w": compose({"v": "$.currentItem.v"}, "x", **first),
        "x": needs_good(),
    }


def steps_of(ended, task, index=-1):
    if (task, index, TRACE) in ended.xcoms:
        return ended.xcom(task, index, TRACE)["steps"]
    return trace_in_state(ended.xcom(task, index, STATE))["steps"]


def traced(ended):
    """Return the task instances that have a trace."""
    found = {(name, index) for name, index, key in ended.xcoms if key == TRACE}
    states = [(name, index) for name, index, key in ended.xcoms if key == STATE]
    return found | {where for where in states if trace_in_state(ended.xcom(*where, STATE))}


def test_each_task_of_the_main_path_has_the_trace_of_its_steps(run):
    again = [{"condition": "$.completedStepCount < 3", "nextStepInstanceId": "b"}]
    steps = {
        "a": compose({"password": "$.v", "v": "$.v"}, "b"),
        "b": compose({"v": "$.steps_output.a.v"}, "c", transitions=again),
        "c": compose({"v": "$.steps_output.b"}),
    }
    ended = run(steps, {"v": 5})
    [first] = steps_of(ended, "a")
    assert (first["step"], first["next"], first["tries"], first["calls"]) == ("a", "b", 1, [])
    assert first["input"] == first["output"] == {"password": "***", "v": 5}
    assert [(step["step"], step["next"]) for step in steps_of(ended, "b")] == [
        ("b", "b"),
        ("b", "b"),
        ("b", "c"),
    ]
    assert [(step["step"], step["next"]) for step in steps_of(ended, "c")] == [("c", None)]


def test_a_failed_item_has_the_steps_of_its_earlier_tasks_too_and_good_items_push_nothing(run):
    ended = run(two_tasks(), {"items": ITEMS})
    assert traced(ended) == {("f.b.x", 0), ("f.aggregate", -1)}
    earlier, failed = steps_of(ended, "f.b.x", 0)
    assert (earlier["step"], earlier["input"], earlier["output"]) == ("w", {"v": 1}, {"v": 1})
    assert (earlier["next"], earlier["seconds"], earlier["at"]) == ("x", None, None)
    assert "earlier task" in earlier["note"]
    assert (failed["step"], failed["error"]["errorName"]) == ("x", "ContentBasedRetryableError")
    assert failed["at"] > 0
    [whole] = steps_of(ended, "f.aggregate")
    assert (whole["step"], whole["type"]) == ("f", "PARALLEL_FORK_MANAGER")


def test_a_trace_that_travels_with_the_state_of_a_branch_has_its_times(run):
    ended = run(two_tasks(outputMappings={"$.mine": "$.v"}), {"items": ITEMS})
    assert traced(ended) == {("f.b.x", 0), ("f.aggregate", -1)}
    earlier, _ = steps_of(ended, "f.b.x", 0)
    assert (earlier["step"], earlier["output"]) == ("w", {"v": 1})
    assert earlier["at"] > 0
    assert "note" not in earlier


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("all", {("f.b.x", 0), ("f.b.x", 1), ("f.aggregate", -1)}),
        ("none", set()),
        ("nonsense", {("f.b.x", 0), ("f.aggregate", -1)}),
    ],
)
def test_the_setting_selects_the_items_with_traces(run, monkeypatch, setting, expected):
    monkeypatch.setenv("AIRFLOW__ALLMA__TRACE_ITEMS", setting)
    assert traced(run(two_tasks(), {"items": ITEMS})) == expected


def test_a_step_that_failed_has_its_error_in_the_trace_of_its_task():
    dag_run = FakeDagRun(flow("failing", {"a": failing()}))
    assert isinstance(dag_run.run("a"), AirflowException)
    [step] = json.loads(dag_run.xcoms["a", -1, TRACE])["steps"]
    assert step["error"]["errorName"] == "PermanentStepError"
    assert step["next"] is None


def test_an_output_that_is_refused_is_in_the_trace_beside_the_error():
    refused = compose({"v": "$.v"}, outputValidation={"requiredFields": ["$.price"]})
    dag_run = FakeDagRun(flow("refused", {"a": refused}), {"v": {"no": "price"}})
    assert isinstance(dag_run.run("a"), AirflowException)
    [step] = json.loads(dag_run.xcoms["a", -1, TRACE])["steps"]
    assert step["error"]["errorName"] == "ContentBasedRetryableError"
    assert step["output"] == {"v": {"no": "price"}}


def test_a_chunk_hands_on_how_many_items_failed_and_stores_their_traces(tmp_path):
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS * 20))
    options = {"chunkBytes": 400, "offloadLocation": f"file://{tmp_path}"}
    steps = two_tasks()
    dag_run = FakeDagRun(
        flow(
            "chunks", {**steps, "f": {**steps["f"], "itemsPath": "$.initialContextData.p"}}, airflow=options
        ),
        {"p": {"bucket": "file://", "key": str(tmp_path / "m.jsonl")[1:]}},
    )
    chunks = dag_run.plan("f")
    for number, chunk in enumerate(chunks):
        dag_run.run("f.chunk", number, chunk)
        handed_on = json.loads(dag_run.xcoms["f.chunk", number, Key.RESULTS])
        assert handed_on == {
            "number": number,
            "items": chunk["count"],
            "failed": chunk["count"] - (chunk["first"] + chunk["count"]) // 2 + chunk["first"] // 2,
            "first": chunk["first"],
        }
    traces = [
        json.loads(line) for file in tmp_path.rglob("traces/*") for line in file.read_text().splitlines()
    ]
    assert len(traces) == 20
    for trace in traces:
        assert [step["step"] for step in trace["steps"]] == ["w", "x"]
