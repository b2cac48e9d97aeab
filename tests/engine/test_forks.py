"""Forks in one process: items, branches and their results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine.http_fake import json_response
from tests.support.engine import Fakes, call, compose, end, fork, noop, run, then

ITEM = {"inputMappings": {"v": "$.currentItem"}}


def fanned(payload, *branches, config=None, steps=None, **fields):
    """Return ``aggregatedData`` of one fork."""
    chosen = {"parallelBranches": list(branches)} if branches else {}
    document = {"fan": fork(config=config, **chosen, **fields), "work": compose(**ITEM), **(steps or {})}
    ran = run(document, payload)
    assert ran.status == "COMPLETED", ran.error
    return ran.outputs["fan"]["aggregatedData"]


def branch(branch_id="b", start="work", **fields):
    return {"branchId": branch_id, "stepInstanceId": start, **fields}


@pytest.mark.parametrize("strategy", ["COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE", "CUSTOM_MODULE"])
@pytest.mark.parametrize("payload", [{}, {"items": None}, {"items": []}])
def test_without_items_no_branch_runs_and_the_flow_continues(strategy, payload):
    config = {"strategy": strategy, "customModuleIdentifier": "no.such:thing"}
    ran = run({"fan": fork(config=config, **then("next")), "work": noop(), "next": noop()}, payload)
    assert (ran.status, ran.path) == ("COMPLETED", ["fan", "next"])
    empty = {"MERGE_OBJECTS": {}, "SUM": 0, "NONE": None}.get(strategy, [])
    expected = {"aggregatedData": empty}
    if strategy == "NONE":
        expected |= {"aggregationSkipped": True, "branchCount": 0, "failedBranchCount": 0}
    assert ran.outputs["fan"] == expected


@pytest.mark.parametrize("value", [7, 0, "", "text", False, {"id": 1}, {"bucket": "b"}])
def test_a_value_that_is_not_a_list_is_one_item(value):
    assert fanned({"items": value}) == [{"v": value}]


def test_all_branches_whose_condition_holds_run_in_item_order_then_branch_order():
    steps = {"two": compose(inputMappings={"w": "$.currentItem"})}
    both = (branch("a", condition="$.currentItem > 1"), branch("z", start="two"))
    assert fanned({"items": [1, 2]}, *both, steps=steps) == [{"w": 1}, {"v": 2}, {"w": 2}]
    assert fanned({"items": [1, 2]}, *both, steps=steps, branchSelection="first") == [{"w": 1}, {"v": 2}]


def test_items_for_which_no_branch_runs_have_no_result():
    assert fanned({"items": [1, 2]}, branch(condition="$.currentItem > 5")) == []


def test_a_condition_may_use_the_branch_id_and_the_main_context():
    chosen = branch("b", condition="$.branchId == 'b' && $.most >= $.currentItem")
    assert fanned({"items": [1, 2, 3], "most": 2}, chosen) == [{"v": 1}, {"v": 2}]


@pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
def test_a_condition_that_cannot_be_evaluated_fails_only_that_item(waits):
    broken = branch(condition="$.names[$.currentItem.key] == 'x'")
    config = {"failOnBranchError": False}
    items = [{"key": "a"}, {"key": None}]
    found = fanned(
        {"items": items, "names": {"a": "x"}}, broken, config=config, steps={"work": compose(**ITEM, **waits)}
    )
    assert found[0] == {"v": items[0]}
    assert found[1]["error"]["errorDetails"] == {
        "failedStepInstanceId": "fan",
        "branchId": "b",
        "itemIndex": 1,
    }


def test_mappings_and_literals_of_a_branch_fill_its_context():
    chosen = branch(
        inputMappings={"order.id": "$.currentItem.id"}, literals={"order.kind": "{{currentItem.kind}}!"}
    )
    steps = {"work": compose(inputMappings={"order": "$.order", "kept": "$.order.of"})}
    payload = {"items": [{"id": 1, "kind": "k"}], "order": {"of": "main"}}
    assert fanned(payload, chosen, steps=steps) == [
        {"order": {"of": "main", "id": 1, "kind": "k!"}, "kept": "main"}
    ]


@pytest.mark.parametrize("position", ["before", "after"])
def test_the_delay_of_a_fork_is_waited_for_once(position):
    fan = fork(parallelBranches=[branch()], delay={"milliseconds": 1500, "position": position})
    ran = run({"fan": fan, "work": compose(**ITEM)}, {"items": [1, 2]})
    assert (ran.status, ran.fakes.sleeps) == ("COMPLETED", [1.5])


@pytest.mark.parametrize(
    ("required", "status"),
    [("$.aggregatedData[1].v", "COMPLETED"), ("$.aggregatedData[2]", "FAILED"), ("$.none", "FAILED")],
)
def test_the_output_of_a_fork_must_have_the_required_fields(required, status):
    fan = fork(parallelBranches=[branch()], outputValidation={"requiredFields": [required]})
    ran = run({"fan": fan, "work": compose(**ITEM)}, {"items": [1, 2]})
    assert ran.status == status
    if status == "FAILED":
        assert ran.error["errorName"] == "ContentBasedRetryableError"
        assert ran.error["errorDetails"]["requiredField"] == required


def test_steps_of_a_branch_hide_those_of_the_flow():
    own = {"work": compose(literals={"mine": True}, **then("more")), "more": noop()}
    ran = run({"fan": fork(parallelBranches=[branch(steps=own)])}, {"items": [1]})
    (result,) = ran.outputs["fan"]["aggregatedData"]
    assert result["message"].startswith("NO_OP")
    assert [one.step_id for one in ran.fakes.records] == ["work", "more", "fan"]


def test_a_fork_in_the_steps_of_a_branch_may_use_steps_of_the_flow():
    own = {"inner": fork("outer", "$.currentItem"), "mine": compose(literals={"mine": 1})}
    own["inner"]["parallelBranches"].append(branch("c", "mine"))
    steps = {
        "fan": fork(parallelBranches=[branch(start="inner", steps=own)]),
        "outer": compose(**ITEM, **then("last")),
        "last": compose(literals={"last": "{{currentItem}}"}),
    }
    ran = run(steps, {"items": [[1, 2]]})
    assert ran.outputs["fan"]["aggregatedData"] == [
        {"aggregatedData": [{"last": "1"}, {"mine": 1}, {"last": "2"}, {"mine": 1}]}
    ]


@pytest.mark.parametrize(
    ("data_path", "expected"),
    [
        (None, {"v": 1, "x": {"y": 2}}),
        ("$", {"v": 1, "x": {"y": 2}}),
        ("$.", {"v": 1, "x": {"y": 2}}),
        ("$.output", {"v": 1, "x": {"y": 2}}),
        ("$.steps_output.work.x", {"y": 2}),
        ("$.x.y", 2),
        ("$.main", "m"),
        ("$.no.such", None),
    ],
)
@pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
def test_the_data_path_is_resolved_in_the_final_context_and_then_in_the_whole_result(
    data_path, expected, waits
):
    work = compose(literals={"x.y": 2}, **ITEM, **waits)
    config = {} if data_path is None else {"dataPath": data_path}
    assert fanned({"items": [1], "main": "m"}, config=config, steps={"work": work}) == [expected]


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [({"$.output": "$.v"}, 1), ({"$.output.deep": "$.v"}, {"deep": 1}), ({"$['output']": "$"}, {"v": 1})],
)
def test_an_output_that_a_branch_sets_is_its_result(mappings, expected):
    steps = {"work": compose(**ITEM, outputMappings=mappings, **then("more")), "more": noop()}
    assert fanned({"items": [1]}, steps=steps) == [expected]


def test_an_output_of_the_main_context_is_not_the_result_of_the_branch():
    assert fanned({"items": [1], "output": "main"}) == [{"v": 1}]


def test_loops_and_end_steps_and_fallbacks_work_in_branches():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/*", json_response({}, status=404))
    steps = {
        "fan": fork("count"),
        "count": compose(
            inputMappings={"old": "$.steps_output.count.text"},
            literals={"text": "{{old}}x"},
            transitions=[
                {"condition": "$.steps_output.count.text.length > $.currentItem", "nextStepInstanceId": "ask"}
            ],
            defaultNextStepInstanceId="count",
        ),
        "ask": call(onError={"fallbackStepInstanceId": "last"}),
        "last": compose(inputMappings={"text": "$.steps_output.count.text"}, **then("stop")),
        "stop": end(),
    }
    ran = run(steps, {"items": [0, 2, 4]}, fakes=fakes)
    assert ran.outputs["fan"]["aggregatedData"] == [{"text": "x"}, {"text": "xxx"}, {"text": "xxxxx"}]
    # Each branch run has its own counts: ten loops with a shared count would exceed the limit.
    assert ran.result.state.transition_counts == {}


def test_nested_forks_see_the_inner_item():
    steps = {
        "fan": fork("inner", config={"dataPath": "$.aggregatedData"}),
        "inner": fork("work", "$.currentItem.sub", {"strategy": "SUM", "dataPath": "$.v"}),
        "work": compose(**ITEM),
    }
    ran = run(steps, {"items": [{"sub": [1, 2]}, {"sub": []}, {"sub": 5}]})
    assert ran.outputs["fan"] == {"aggregatedData": [3, 0, 5]}
    assert ran.fakes.records[0].branch_id == "b"


def test_a_fork_without_branches_succeeds():
    assert fanned({"items": [1, 2]}, parallelBranches=[]) == []


WORK = st.sampled_from(
    [
        compose(**ITEM),
        compose(**ITEM, outputMappings={"$.output": "$.v"}),
        compose(**ITEM, outputMappings={}),
        compose(inputMappings={"n": "$.currentItem.n"}, outputValidation={"requiredFields": ["$.n"]}),
        compose(**ITEM, onError={"continueOnFailure": True}, outputValidation={"requiredFields": ["$.v.n"]}),
        compose(**ITEM, transitions=[{"condition": "$.currentItem.n > 1", "nextStepInstanceId": "next"}]),
        compose(**ITEM, **then("next")),
        compose(
            **ITEM, onError={"fallbackStepInstanceId": "next"}, outputValidation={"requiredFields": ["$.v.n"]}
        ),
    ]
)
ITEMS = st.lists(
    st.none() | st.integers(-2, 2) | st.fixed_dictionaries({}, optional={"n": st.none() | st.integers(0, 3)}),
    max_size=5,
)
CONFIG = st.fixed_dictionaries(
    {"failOnBranchError": st.booleans()},
    optional={
        "strategy": st.sampled_from(["COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE"]),
        "dataPath": st.sampled_from(["$", "$.v", "$.steps_output.work", "$.currentItem.n"]),
        "toleratedFailurePercentage": st.integers(0, 100),
        "toleratedFailureCount": st.integers(0, 3),
    },
)


@settings(deadline=None)
@given(WORK, ITEMS, CONFIG, st.sampled_from([None, "$.currentItem.n", "$.currentItem.n >= 1"]))
def test_branches_that_wait_have_the_same_results_as_branches_that_do_not(work, items, config, condition):
    def outcome(delay):
        steps = {
            "fan": fork(
                config=config, parallelBranches=[branch(**({"condition": condition} if condition else {}))]
            ),
            "work": {**work, **delay},
            "next": compose(inputMappings={"after": "$.steps_output.work"}),
        }
        ran = run(steps, {"items": items})
        assert bool(ran.fakes.sleeps) <= bool(delay)
        records = sorted(
            (one.item_index or 0, one.step_id, str(one.output), str(one.error), str(one.next_step))
            for one in ran.fakes.records
            if one.step_id != "fan"
        )
        return ran.status, ran.error, ran.context, records

    assert outcome({}) == outcome({"delay": {"milliseconds": 1}})
