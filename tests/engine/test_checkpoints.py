"""Checkpoints: their order, what a run says of the last one, and who is told."""

from __future__ import annotations

import pytest

from airflow_allma.common.checkpoint_notes import checkpoint_line, note_with
from airflow_allma.engine import RunState
from tests.support.engine import Fakes, compose, fork, noop, program_of, run, then

SEEN = {"label": "$.reachedCheckpoint.label", "percent": "$.reachedCheckpoint.percent"}


def mark(name, order=None):
    return {"checkpoint": {"id": name, "label": name.upper(), **({} if order is None else {"order": order})}}


def reached(steps, **arguments):
    told = []
    ran = run(
        steps, on_checkpoint=lambda one, info: told.append((one["ordinal"], info.branch_id)), **arguments
    )
    return ran, told


def test_checkpoints_are_in_the_order_that_they_name_and_then_in_that_of_the_flow():
    steps = {
        "a": noop(**then("b"), **mark("a")),
        "b": noop(**then("c"), **mark("b", 2)),
        "c": noop(**then("d")),
        "d": noop(**mark("d", 0)),
    }
    milestones = program_of(steps).milestones
    assert {step: (one.ordinal, one.percent) for step, one in milestones.items()} == {
        "d": (1, 33),
        "b": (2, 67),
        "a": (3, 100),
    }


def test_a_step_sees_its_own_checkpoint_and_those_before():
    steps = {
        "a": compose(**then("b"), **mark("a"), inputMappings=SEEN),
        "b": compose(**then("c"), inputMappings=SEEN),
        "c": compose(**mark("c"), inputMappings=SEEN),
    }
    ran, told = reached(steps)
    assert ran.outputs == {
        "a": {"label": "A", "percent": 50},
        "b": {"label": "A", "percent": 50},
        "c": {"label": "C", "percent": 100},
    }
    assert told == [(1, None), (2, None)]
    assert ran.fakes.record("b").checkpoint is None
    assert ran.fakes.record("c").checkpoint["id"] == "c"


def test_a_loop_never_moves_back_and_tells_nothing_twice():
    again = [{"condition": "$.transitionCounts['b:0'] != 2", "nextStepInstanceId": "a"}]
    steps = {"a": noop(**then("b"), **mark("a")), "b": noop(transitions=again, **mark("b"))}
    ran, told = reached(steps)
    assert ran.path == ["a", "b"] * 3
    assert told == [(1, None), (2, None)]
    assert ran.result.state.checkpoint["id"] == "b"


def test_branches_have_their_own_and_leave_the_flows_alone():
    steps = {
        "f": fork("w", **then("z"), **mark("f")),
        "w": compose(**mark("w"), inputMappings=SEEN),
        "z": compose(inputMappings=SEEN),
    }
    ran, told = reached(steps, payload={"items": [1]})
    assert ran.outputs["f"]["aggregatedData"] == [{"label": "W", "percent": 100}]
    assert ran.outputs["z"]["label"] == "F"
    assert told == [(1, None), (2, "b")]


def test_a_saved_state_keeps_it():
    ran, _ = reached({"a": noop(**mark("a"))})
    state = ran.result.state
    assert RunState.from_dict(state.to_dict()).checkpoint == state.checkpoint
    assert state.copy().checkpoint == state.checkpoint
    assert "checkpoint" not in run({"a": noop()}, fakes=Fakes()).result.state.to_dict()


LINE = "Checkpoint 2 of 3 (67 %): Packed, 2026-03-01 08:30:00 UTC"
REACHED = {
    "ordinal": 2,
    "total": 3,
    "percent": 67,
    "label": "Packed",
    "reachedAt": "2026-03-01T08:30:00.000Z",
}


def test_a_checkpoint_is_a_line():
    assert checkpoint_line(REACHED) == LINE


@pytest.mark.parametrize(
    "change", [{"ordinal": "2"}, {"label": 5}, {"reachedAt": "soon"}, {"reachedAt": None}, {"percent": None}]
)
def test_what_is_no_checkpoint_is_no_line(change):
    assert checkpoint_line({**REACHED, **change}) is None


def test_a_label_cannot_break_the_line():
    line = checkpoint_line({**REACHED, "label": "a\nb" * 1000})
    assert "\n" not in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, LINE),
        ("", LINE),
        ("Called the customer", f"Called the customer\n{LINE}"),
        ("Checkpoint 1 of 3 (33 %): Paid \\1, 2026-03-01 08:29:00 UTC", LINE),
        ("a\nCheckpoint 1 of 3 (33 %): Paid, x\nb", f"a\n{LINE}\nb"),
        ("x" * 990, "x" * 990),
    ],
)
def test_the_line_replaces_the_one_before_and_leaves_what_people_wrote(note, expected):
    assert note_with(note, LINE) == expected
