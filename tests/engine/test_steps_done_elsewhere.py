"""Steps whose output is from elsewhere: mapped, counted and routed like any step."""

from __future__ import annotations

import asyncio

import pytest

from airflow_allma.engine import RunState, complete_step, skip_step
from tests.support.engine import INFO, Fakes, fork, noop, program_of, then


def completed(step, output, state=None):
    program = program_of({"fan": step, "work": noop(), "next": noop(**then("fan")), "spare": noop()})
    state = state or RunState("fan", {"steps_output": {}})
    services = Fakes().services()
    return asyncio.run(complete_step(program, state, "fan", output, info=INFO, services=services))


def test_an_output_from_elsewhere_is_mapped_and_the_flow_continues():
    ended = completed(
        fork(outputMappings={"$.got": "$.aggregatedData"}, **then("next")), {"aggregatedData": [1]}
    )
    assert (ended.status.value, ended.next_step, ended.state.context["got"]) == ("LEFT", "next", [1])
    assert completed(fork(), {"aggregatedData": [1]}).status.value == "COMPLETED"


@pytest.mark.parametrize(("output", "kept"), [([], []), (None, {}), (0, {}), ("", {}), (False, {}), (1, 1)])
def test_an_empty_list_is_an_output_and_other_falsy_values_are_an_empty_object(output, kept):
    assert completed(noop(), output).state.context["steps_output"] == {"fan": kept}


def test_the_transition_after_an_output_from_elsewhere_is_counted():
    step = fork(defaultNextMaxTransitions=1, **then("next"))
    state = completed(step, {}).state
    ended = completed(step, {}, state)
    assert (ended.status.value, ended.error["errorDetails"]["transition"]) == ("FAILED", "fan:default")
    back = {"onError": {"fallbackStepInstanceId": "spare"}}
    ended = completed({**step, **back}, {}, state)
    assert (ended.status.value, ended.next_step) == ("LEFT", "spare")


def test_a_skipped_step_has_an_empty_output_and_neither_delay_nor_validation():
    step = fork(
        delay={"milliseconds": 60_000}, outputValidation={"requiredFields": ["$.never"]}, **then("next")
    )
    program = program_of({"fan": step, "work": noop(), "next": noop()})
    state, services = RunState("fan", {"steps_output": {}}), Fakes().services()
    ended = asyncio.run(skip_step(program, state, "fan", info=INFO, services=services))
    assert (ended.status.value, ended.next_step, state.path) == ("LEFT", "next", ["fan"])
    assert state.context == {"steps_output": {"fan": {}}}
