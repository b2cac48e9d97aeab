"""Serialized states: save and replay them, leave a segment and resume it."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import RunInfo, RunState, SegmentStatus, run_segment
from airflow_allma.engine.compile import compile_flow
from airflow_allma.exceptions import AllmaError, ExpressionEvaluationError
from airflow_allma.expressions import NOTHING
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import INFO, Fakes, compose, flow_of, noop, program_of, then


def test_a_run_starts_with_its_payload_at_the_root_and_under_its_own_key():
    payload = {
        "a": 1,
        "steps_output": {"old": 1},
        "flow_variables": {"x": "payload", "flowExecutionId": "fake"},
    }
    program = compile_flow(flow_of({"s": noop()}, flowVariables={"x": "flow", "y": "flow"}))
    assert program.start_state(payload, "run-1").context == {
        "a": 1,
        "initialContextData": payload,
        "steps_output": {},
        "flow_variables": {"x": "payload", "y": "flow", "flowExecutionId": "run-1"},
    }


@pytest.mark.parametrize("given_variables", [None, 5, "text", [1]])
def test_flow_variables_of_a_payload_are_ignored_if_they_are_not_an_object(given_variables):
    state = RunState.start("s", {"flow_variables": given_variables}, {"y": 1}, "id")
    assert state.context["flow_variables"] == {"y": 1, "flowExecutionId": "id"}


def test_the_start_time_of_a_run_is_in_utc_with_milliseconds():
    started = RunInfo.now("f", 1, "id").start_time
    assert (len(started), started[10], started[19], started[-1]) == (24, "T", ".", "Z")


KEYS = st.sampled_from(["a", "b", "0", "1", "x y", "it's"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(
    KEYS.map(lambda key: "['" + key.replace("'", "\\'") + "']") | st.integers(0, 3).map("[{}]".format),
    min_size=1,
    max_size=4,
).map(lambda parts: "$" + "".join(parts))
WRITES = st.lists(st.tuples(PATHS, VALUES), max_size=6)
CONTEXTS = st.dictionaries(KEYS, VALUES, max_size=4)


def written(state, writes):
    for target, value in writes:
        try:
            state.write(target, value)
        except ExpressionEvaluationError:
            continue


@given(CONTEXTS, WRITES)
def test_replaying_a_journal_over_the_base_restores_the_context(base, writes):
    before = json.dumps(base)
    state = RunState("next", base, {"a:0": 2}, ["a"], last_output={"x": 1}, journal=[])
    written(state, writes)
    saved = json.loads(json.dumps(state.to_dict()))
    assert "context" not in saved
    again = RunState.from_dict(saved, base)
    assert again == state
    assert json.dumps(base) == before
    assert RunState.from_dict(json.loads(json.dumps(again.to_dict())), base) == state


@given(CONTEXTS, WRITES)
def test_a_state_without_a_journal_is_serialized_whole(base, writes):
    state = RunState(None, base, {"a:default": 1}, ["a", "b"], output_mapped=True)
    written(state, writes)
    again = RunState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert again == state
    assert again.last_output is NOTHING


def test_a_write_through_a_pointer_can_be_replayed_without_a_store():
    inner = {"bucket": "b", "key": "k"}
    base = {"far it's": {"_s3_output_pointer": inner, "beside": 1}, "same": {"x": 1}}
    state = RunState("s", base, journal=[])
    state.write("$['far it\\'s'].deep.a", 5, lambda _: {"deep": {"b": 2}})
    state.write("$.same.x", 2)
    again = RunState.from_dict(json.loads(json.dumps(state.to_dict())), base)
    assert again.context == state.context
    assert again.context["far it's"]["deep"] == {"a": 5, "b": 2}
    assert again.journal == state.journal


def test_a_rejected_write_is_not_in_the_journal():
    state = RunState("s", {"list": [1]}, journal=[])
    with pytest.raises(AllmaError):
        state.write("$.list.name", 1)
    assert (state.journal, state.context) == ([], {"list": [1]})


def segment(program, state, inside, **services):
    fakes = Fakes()
    ended = asyncio.run(run_segment(program, state, INFO, fakes.services(**services), inside=inside))
    return ended, [one.step_id for one in fakes.records]


def test_a_run_leaves_a_segment_before_a_step_outside_of_it_and_can_be_resumed():
    steps = {"a": compose(literals={"x": 1}, **then("b")), "b": noop(**then("c")), "c": noop(**then("a"))}
    program = program_of(steps)
    ended, ran = segment(program, program.start_state({}, "id"), {"a", "b"})
    assert (ended.status, ended.next_step, ran) == (SegmentStatus.LEFT, "c", ["a", "b"])
    state = RunState.from_dict(json.loads(json.dumps(ended.state.to_dict())))
    ended, ran = segment(program, state, {"c"})
    assert (ended.status, ended.next_step, ran) == (SegmentStatus.LEFT, "a", ["c"])
    assert ended.state.path == ["a", "b", "c"]
    assert ended.state.transition_counts == {"a:default": 1, "b:default": 1, "c:default": 1}


def test_a_run_that_is_not_in_the_segment_leaves_at_once():
    program = program_of({"a": noop(**then("b")), "b": noop()})
    ended, ran = segment(program, program.start_state({}, "id"), {"b"})
    assert (ended.status, ended.next_step, ran) == (SegmentStatus.LEFT, "a", [])


def test_a_loop_in_a_segment_counts_over_segments():
    steps = {"a": noop(**then("b")), "b": noop(defaultNextMaxTransitions=2, **then("a"))}
    program = program_of(steps)
    state = program.start_state({}, "id")
    left = []
    for _ in range(10):
        ended, _ = segment(program, state, {state.next_step})
        left.append((ended.status.value, ended.next_step))
        state = RunState.from_dict(ended.state.to_dict())
        if ended.status is SegmentStatus.FAILED:
            break
    assert left == [
        ("LEFT", "b"),
        ("LEFT", "a"),
        ("LEFT", "b"),
        ("LEFT", "a"),
        ("LEFT", "b"),
        ("FAILED", "b"),
    ]


def test_a_run_at_the_end_of_its_path_is_completed_without_running_anything():
    program = program_of({"a": noop()})
    ended, ran = segment(program, RunState(None, {"x": 1}), {"a"})
    assert (ended.status, ended.output, ran) == (SegmentStatus.COMPLETED, None, [])


def test_writes_of_a_branch_are_in_the_journal_even_if_it_waited_for_a_pointer():
    store = MemoryStore()
    store.write(Pointer("b", "k"), b'{"go": 1}', content_type="application/json")
    steps = {
        "a": compose(literals={"x": 1}, transitions=[{"condition": "$.far.go", "nextStepInstanceId": "b"}]),
        "b": noop(outputMappings={"$.far.new": "$.message"}),
    }
    base = {"steps_output": {}, "far": Pointer("b", "k").wrap()}
    state = RunState("a", base, journal=[])
    ended, ran = segment(program_of(steps), state, None, store=store)
    assert (ended.status, ran) == (SegmentStatus.COMPLETED, ["a", "b"])
    assert [target for target, _ in ended.state.journal] == ["$.steps_output.a", "$.far"]
    assert RunState.from_dict(ended.state.to_dict(), base).context == ended.state.context
