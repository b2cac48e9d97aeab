"""Branches of one step that composes an object have the same results as branches of any other steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine import EngineSettings, ForkRun, Services
from airflow_allma.engine.composing import Composer
from airflow_allma.engine.tracing import Tracer
from airflow_allma.storage import MemoryStore, Pointer
from airflow_allma.storage.content import encode_value
from tests.support.engine import INFO, Fakes, compose, fork, noop, program_of, run, then

POINTER = Pointer("data", "more.json")
SMALL = EngineSettings(max_step_work=300)

WORK = {
    "a member": compose(inputMappings={"v": "$.currentItem.n"}),
    "the whole item, which is copied": compose(inputMappings={"v": "$.currentItem"}),
    "the whole context": compose(inputMappings={"all": "$"}),
    "a list that a path makes": compose(inputMappings={"v": "$..n", "w": "$.currentItem[*]"}),
    "nested targets": compose(inputMappings={"a.b": "$.currentItem.n", "a.c": "$.currentItem"}),
    "literals": compose(
        literals={"kind": "x", "deep": {"a": [1]}}, inputMappings={"deep.b": "$.currentItem"}
    ),
    "a template": compose(literals={"text": "{{branchId}}-{{currentItem.n}}"}),
    "the run's state": compose(inputMappings={"b": "$.branchId", "d": "$.currentContextData.currentItem"}),
    "the run's state as a whole": compose(literals={"text": "{{json this}}"}),
    "_meta, which is no output": compose(inputMappings={"_meta.x": "$.currentItem", "v": "$.currentItem"}),
    "a pointer": compose(inputMappings={"v": "$.currentItem.there.x"}),
    "a path that cannot be evaluated, and too much work": compose(
        inputMappings={"a": "$.currentItem[?(@.n < 'x')]", "v": "$.currentItem..*..*..*"}
    ),
    "a fallback": compose(
        inputMappings={"v": "$.currentItem..*..*..*"}, onError={"fallbackStepInstanceId": "next"}
    ),
}
ITEMS = st.lists(
    st.recursive(
        st.none() | st.integers(-2, 2) | st.text(max_size=2),
        lambda inner: (
            st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from("nmx"), inner, max_size=3)
        ),
        max_leaves=30,
    )
    | st.just({"there": POINTER.wrap()})
    | st.just({"there": Pointer("data", "none.json").wrap()}),
    max_size=4,
)


def forked(work, **fields):
    return program_of({"fan": fork(**fields), "work": work, "next": noop()})


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@settings(deadline=None, max_examples=15)
@given(ITEMS, st.booleans())
def test_the_results_are_those_of_the_life_cycle_of_a_step(work, items, fails):
    store = MemoryStore()
    store.write(POINTER, encode_value({"x": [1, {"n": 2}]}))
    program = forked(work, config={"failOnBranchError": fails})

    def outcome(**services):
        ran = run(program, {"items": items}, store=store, settings=SMALL, **services)
        return ran.status, ran.error, ran.context

    # A recorder of every step needs the life cycle.
    assert outcome(recorder=None) == outcome()


def test_a_failure_is_recorded_once():
    fakes = Fakes()
    program = forked(WORK["a path that cannot be evaluated, and too much work"])
    deep = [[[[1] * 9] * 9] * 9]
    run(program, {"items": [deep, 1]}, fakes=fakes, settings=SMALL, records_failures_only=True)
    assert [(one.step_id, one.item_index) for one in fakes.records] == [("work", 0), ("fan", None)]


@pytest.mark.parametrize(
    ("program", "services", "composes"),
    [
        (forked(compose()), {}, True),
        (forked(compose(inputMappings={"v": "$.branchId"})), {}, True),
        (forked(compose()), {"recorder": print, "records_failures_only": True}, True),
        (forked(compose()), {"recorder": print}, False),
        (forked(compose()), {"tracer": Tracer}, False),
        (forked(noop()), {}, False),
        (forked(compose(customConfig={"v": 1})), {}, False),
        (forked(compose(outputValidation={"requiredFields": ["$.v"]})), {}, False),
        (forked(compose(outputMappings={"$.output": "$"})), {}, False),
        (forked(compose(delay={"milliseconds": 1})), {}, False),
        (forked(compose(forceS3Offload=True)), {}, False),
        (forked(compose(**then("next"))), {}, False),
        (forked(compose(), config={"dataPath": "$.currentItem"}), {}, False),
    ],
)
def test_only_a_step_whose_output_is_its_input_is_composed(program, services, composes):
    fan = program.steps["fan"].fork
    assert (Composer.of(ForkRun(fan, {}, INFO, Services(**services))) is not None) == composes


@pytest.mark.parametrize("fields", [{"condition": "$.currentItem > 1"}, {"literals": {"a": 1}}])
def test_a_branch_with_expressions_of_its_own_is_not_composed(fields):
    branch = {"branchId": "b", "stepInstanceId": "work", **fields}
    fan = forked(compose(), parallelBranches=[branch]).steps["fan"].fork
    assert Composer.of(ForkRun(fan, {}, INFO, Services())) is None


def test_results_share_nothing_with_their_items_or_each_other():
    item = {"n": [1]}
    ran = run(forked(WORK["the whole item, which is copied"]), {"items": [item, item]}, recorder=None)
    first, second = ran.outputs["fan"]["aggregatedData"]
    first["v"]["n"].append(2)
    assert (second, item) == ({"v": {"n": [1]}}, {"n": [1]})
