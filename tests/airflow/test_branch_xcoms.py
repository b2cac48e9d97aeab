"""What the tasks of a branch push: their return value alone, as long as it says everything."""

from __future__ import annotations

import contextlib
import copy

import pytest
from airflow.sdk.exceptions import AirflowException

from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, failing, flow, fork, route

pytestmark = pytest.mark.airflow

ITEMS = [{"id": "p1", "v": 1}, {"id": "p2", "v": 2}, {"id": "p3", "v": 3}]
VALUE = {"v": "$.currentItem.v"}
RETURNED = {"return_value"}


def keys(ended, task, index=0):
    return {key for name, map_index, key in ended.xcoms if (name, map_index) == (task, index)}


def collected(ended):
    return ended.xcom("f.aggregate")["aggregatedData"]


def two_steps(first, last=None, **more):
    return {
        "f": fork(branch("w"), **more),
        "w": {**first, "defaultNextStepInstanceId": "x"},
        "x": last or compose({"w": "$.steps_output.w"}),
    }


def test_a_task_of_a_branch_pushes_nothing_but_its_output(run):
    ended = run(two_steps(compose(VALUE)), {"items": ITEMS})
    assert collected(ended) == [{"w": {"v": n}} for n in (1, 2, 3)]
    for index in range(3):
        assert keys(ended, "f.b.w", index) == keys(ended, "f.b.x", index) == RETURNED
        assert ended.xcom("f.b.w", index) == {"v": index + 1}


def test_keys_that_the_flow_writes_come_back_in_its_order(run):
    config = {"surname": "x", "age": 1}
    steps = two_steps(
        compose({"name": "$.currentItem.id", "email.at": "$.currentItem.v"}, customConfig=config),
        compose({"all": "$.steps_output.w", "w": "$.currentItem.v"}, literals={"id": 7}),
    )
    ended = run(steps, {"items": ITEMS[:1]})
    first = {"surname": "x", "age": 1, "email": {"at": 1}, "name": "p1"}
    assert repr(ended.xcom("f.b.w", 0)) == repr(first)
    assert keys(ended, "f.b.w") == RETURNED
    # The step's own keys are known, those inside of them are not.
    assert keys(ended, "f.b.x") == {"return_value", "allma_result"}
    assert repr(collected(ended)) == repr([{"all": first, "w": 1, "id": 7}])


AWKWARD = {
    "U+0000": "a\0b",
    "more than 64 bits": 2**70,
    "keys that a database sorts": {"long": 1, "b": {"z": 1, "a": 2}},
    "a float that a database makes an integer": 1e22,
    "nested deeply": [[[[1]]]] * 2,
}


@pytest.mark.parametrize("value", AWKWARD.values(), ids=AWKWARD)
def test_what_a_database_would_change_reaches_the_next_task_and_the_aggregate_exactly(run, value):
    steps = two_steps(compose({"a": "$.currentItem"})) | {"z": compose({"all": "$.steps_output.f"})}
    steps["f"]["defaultNextStepInstanceId"] = "z"
    ended = run(steps, {"items": [value, 1]})
    assert repr(ended.xcom("z")) == repr({"all": {"aggregatedData": [{"w": {"a": value}}, {"w": {"a": 1}}]}})


@pytest.mark.parametrize("value", ["text", "", 0, False, 7, [1], [], {}, '{"a": 1}'])
def test_outputs_of_every_type_are_results(run, value):
    steps = {"f": fork(branch("w"), dataPath="$.steps_output.w.d"), "w": compose({"d": "$.currentItem.d"})}
    ended = run(steps, {"items": [{"d": value}, {"d": [value]}]})
    assert collected(ended) == [value, [value]]


def test_transitions_of_a_branch_are_taken_again_from_the_return_values(run):
    steps = {
        "f": fork(branch("w")),
        "w": {**compose(VALUE), **route(("$.steps_output.w.v == 2", "left"), to="right")}
        | {"stepType": "DATA_TRANSFORMATION"},
        "left": compose({"left": "$.steps_output.w.v"}, to="join"),
        "right": compose({"right": "$.steps_output.w.v"}, to="join"),
        "join": compose({"l": "$.steps_output.left", "r": "$.steps_output.right"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert collected(ended) == [{"r": {"right": 1}}, {"l": {"left": 2}}, {"r": {"right": 3}}]
    assert ended.states("f.b.left") == {0: "skipped", 1: "success", 2: "skipped"}
    assert keys(ended, "f.b.w") == keys(ended, "f.b.right") == keys(ended, "f.b.join", 1) == RETURNED


NOT_REPEATED = {
    "a mapping of its own": compose(VALUE, outputMappings={"$.mine": "$.v"}),
    "no mapping": compose(VALUE, outputMappings={}),
    "a fallback": failing(onError={"fallbackStepInstanceId": "x"}),
}


@pytest.mark.parametrize("first", NOT_REPEATED.values(), ids=NOT_REPEATED)
def test_a_task_whose_output_does_not_say_everything_pushes_its_state_too(run, first):
    last = compose({"mine": "$.mine", "w": "$.steps_output.w"})
    ended = run(two_steps(first, last), {"items": ITEMS})
    assert "allma_state" in keys(ended, "f.b.w")
    assert collected(ended) == [{"mine": n} if "mine" in str(first) else {} for n in (1, 2, 3)]


def test_an_error_that_becomes_the_output_reaches_the_next_task(run):
    ended = run(two_steps(failing(onError={"continueOnFailure": True})), {"items": ITEMS})
    assert [one["w"]["errorName"] for one in collected(ended)] == ["PermanentStepError"] * 3


def test_a_stored_output_reaches_the_next_task_as_a_pointer(run, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__OUTPUT_OFFLOAD_BYTES", "100")
    steps = two_steps(compose({"n": "$.currentItem"}), compose({"n": "$.steps_output.w.n[0]"}))
    options = {"offloadLocation": f"file://{tmp_path}"}
    ended = run(steps, {"items": [list(range(100)), [5]]}, airflow=options)
    assert collected(ended) == [{"n": 0}, {"n": 5}]
    assert ended.xcom("f.b.w", 0) == {"n": list(range(100))}
    assert keys(ended, "f.b.w") > keys(ended, "f.b.w", 1) == RETURNED


def test_a_long_branch_pushes_its_state_now_and_then(run):
    count = 10
    steps = {"f": fork(branch("s0"))}
    for n in range(count):
        before = {f"s{m}": f"$.steps_output.s{m}.zz" for m in range(n)}
        steps[f"s{n}"] = compose(before, f"s{n + 1}" if n + 1 < count else None, literals={"zz": n})
    ended = run(steps, {"items": [1, 2]})
    whole = {**{f"s{n}": n for n in range(count - 1)}, "zz": count - 1}
    assert collected(ended) == [whole, whole]
    assert [n for n in range(count) if keys(ended, f"f.b.s{n}", 1) != RETURNED] == [3, 7]


def test_a_result_that_is_not_the_output_is_pushed(run):
    steps = {
        "f": fork(branch("w", "short"), branch("x", "whole"), dataPath="$.steps_output.w.v"),
        "w": compose(VALUE),
        "x": compose({"id": "$.currentItem.id"}),
    }
    ended = run(steps, {"items": ITEMS})
    assert collected(ended) == [1, None, 2, None, 3, None]
    assert keys(ended, "f.short.w") == keys(ended, "f.whole.x") == {"return_value", "allma_result"}


@pytest.mark.parametrize("changed", [{}, {"$.items": "$.n"}])
def test_the_payload_is_pushed_once_until_the_flow_ends(run, changed):
    steps = {
        "a": compose(literals={"n": 1}, to="b", outputMappings=changed),
        "b": compose({"all": "$.initialContextData", "items": "$.items"}),
    }
    payload = {"zero": None, "items": [{"b": 1, "a": 2}]}
    ended = run(steps, payload)
    items = 1 if changed else payload["items"]
    assert repr(ended.xcom("b")) == repr({"all": payload, "items": items})
    pushed = ended.xcom("a", key="allma_state")
    assert (pushed["context"]["initialContextData"] is None) == (not changed)


def aggregate_of(values, states):
    """Run the aggregate after tasks of one branch left these return values and results, and these states."""
    steps = {"f": fork(branch("w"), failOnBranchError=False), "w": compose()}
    dag_run = FakeDagRun(flow("aligned", steps), {"items": list(range(len(states)))})
    dag_run.plan("f")
    for index, state in enumerate(states):
        dag_run.states[f"f.b.w_{index}"] = state
    for index, value in values.items():
        dag_run.instance("f.b.w", index).xcom_push("return_value", value)
    return [
        "lost" if isinstance(one, dict) and "error" in one else one
        for one in dag_run.run("f.aggregate")["aggregatedData"]
    ]


@pytest.mark.parametrize(
    ("states", "returned"),
    [
        (["success"] * 3, [0, 1, 2]),
        (["success", "upstream_failed", "success"], [0, 2]),
        (["success", "upstream_failed", "success"], [0, 1, 2]),
        (["success", "skipped", "success"], [0, 1]),
        (["success", "success", "success"], [0, 2]),
        (["success", "success", "upstream_failed"], [0, 2]),
        (["upstream_failed", "success", "success"], [0, 2]),
        (["success", "removed", "failed"], [1, 2]),
        (["success", *["upstream_failed"] * 8, "success"], [0, 3, 9]),
        (["success", *["upstream_failed"] * 8, "success"], [0, 3]),
        (["failed"] * 3, [0, 1, 2]),
    ],
)
def test_return_values_belong_to_the_task_that_returned_them_in_this_try(states, returned):
    # Other values are of an earlier try, and tasks without one were marked as success.
    found = aggregate_of({index: {"of": index} for index in returned}, states)
    assert found == [
        {"of": index} if state == "success" and index in returned else "lost"
        for index, state in enumerate(states)
    ]


def test_a_return_value_of_an_item_that_is_gone_is_not_taken_for_another():
    steps = {"f": fork(branch("w"), failOnBranchError=False), "w": compose()}
    dag_run = FakeDagRun(flow("fewer", steps), {"items": [1, 2]})
    dag_run.plan("f")
    dag_run.states |= {"f.b.w_0": "success", "f.b.w_1": "success", "f.b.w_2": "removed"}
    for index in (0, 2):
        dag_run.instance("f.b.w", index).xcom_push("return_value", {"of": index})
    first, second = dag_run.run("f.aggregate")["aggregatedData"]
    assert first == {"of": 0}
    assert "error" in second


def test_an_output_that_is_nested_too_deeply_for_other_tasks_fails_its_item_with_the_reason(run):
    # Each step wraps the value in a hundred objects more.
    target, source = ".".join(["w"] * 100), "$.currentItem.v"
    deep = {}
    for number in range(12):
        deep[f"d{number}"] = compose({target: source}, to=f"d{number + 1}")
        source = f"$.steps_output.d{number}"
    # Steps of a loop run in one task.
    deep["d11"]["transitions"] = [{"condition": "$.never", "nextStepInstanceId": "d0"}]
    steps = {
        "f": fork(branch("r"), failOnBranchError=False),
        "r": route(("$.currentItem.v == 2", "d0"), to="w"),
        **deep,
        "d12": compose(VALUE),
        "w": compose(VALUE),
    }
    ended = run(steps, {"items": ITEMS})
    first, second, third = collected(ended)
    assert (first, third) == ({"v": 1}, {"v": 3})
    assert "nested too deeply to be passed on to other tasks" in second["error"]["errorMessage"]


def test_a_list_inside_of_an_object_is_loaded_once_for_all_items(tmp_path):
    stored = tmp_path / "lists.json"
    stored.write_text('{"people": [{"v": "a"}, {"v": "b"}]}', encoding="utf-8")
    loaded = fork(branch("w"), items="$.initialContextData.lists.people")
    options = {"offloadLocation": f"file://{tmp_path}"}
    dag_run = FakeDagRun(
        flow("loaded", {"f": loaded, "w": compose(VALUE)}, airflow=options),
        {"lists": {"_s3_output_pointer": {"bucket": "file://", "key": str(stored).lstrip("/")}}},
    )
    assert dag_run.run("f.items") == [0, 1]
    stored.unlink()
    assert [dag_run.run("f.b.w", index) for index in (0, 1)] == [{"v": "a"}, {"v": "b"}]


@pytest.mark.parametrize(("step", "early"), [(compose(VALUE), ""), (failing(), "p2")])
def test_a_label_is_sent_before_the_task_only_if_its_step_can_take_a_while(step, early):
    dag_run = FakeDagRun(flow("labels", {"f": fork(branch("w")), "w": step}), {"items": ITEMS})
    dag_run.run("f.items")
    task = copy.copy(dag_run.dag.get_task("f.b.w"))
    context = dag_run.context("f.b.w", 1)
    task.render_template_fields(context)
    assert task.item_label == early
    with contextlib.suppress(AirflowException):
        task.execute(context)
    assert (task.item_label, context["ti"].rendered_map_index) == ("p2", "p2")
