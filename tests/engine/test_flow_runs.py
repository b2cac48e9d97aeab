"""What identifies the start of a run."""

from __future__ import annotations

import msgspec
import pytest

from airflow_allma.engine import RunInfo, RunState
from airflow_allma.engine.flow_runs import execution_key

RUN = RunInfo("parent", 1, "run-1", "2026-01-01T00:00:00.000Z")
OTHER_RUN = RunInfo("parent", 1, "run-2", "2026-01-01T00:00:00.000Z")


def after(**counts: int) -> RunState:
    return RunState("start", {}, {key.replace("__", ":"): count for key, count in counts.items()})


EXECUTIONS = {
    "main path": (RUN, "start", None),
    "another run": (OTHER_RUN, "start", None),
    "another step": (RUN, "star", None),
    "second visit": (RUN, "start", after(start__default=1)),
    "third visit, by two transitions": (RUN, "start", after(start__default=1, start__0=1)),
    "after a fallback and three transitions": (RUN, "start", after(start__fallback=1, start__0=3)),
    "item 0": (RUN.in_branch("f", "b", 0), "start", None),
    "item 1": (RUN.in_branch("f", "b", 1), "start", None),
    "item 0 of another fork": (RUN.in_branch("g", "b", 0), "start", None),
    "item 0 of the fork's second visit": (
        msgspec.structs.replace(RUN, fork_visit=1).in_branch("f", "b", 0),
        "start",
        None,
    ),
    "another branch": (RUN.in_branch("f", "c", 0), "start", None),
    "item 0 of a fork in item 0": (RUN.in_branch("f", "b", 0).in_branch("f", "b", 0), "start", None),
    "item 0 of a fork in item 1": (RUN.in_branch("f", "b", 1).in_branch("f", "b", 0), "start", None),
    "item 1 of a fork in item 0": (RUN.in_branch("f", "b", 0).in_branch("f", "b", 1), "start", None),
    "a branch that is named like two": (RUN.in_branch("f", "b0b", 0), "start", None),
}


def test_every_execution_of_a_step_has_a_key_of_its_own():
    keys = {name: execution_key(*execution) for name, execution in EXECUTIONS.items()}
    assert len(set(keys.values())) == len(EXECUTIONS), keys


@pytest.mark.parametrize("name", EXECUTIONS)
def test_the_key_is_the_same_when_the_step_runs_again(name):
    info, step, state = EXECUTIONS[name]
    again = None if state is None else RunState.from_dict(state.to_dict())
    assert execution_key(info, step, state) == execution_key(info, step, again)


def test_what_other_steps_did_before_does_not_change_the_key():
    assert execution_key(RUN, "start", after(other__0=3, start2__default=1)) == execution_key(
        RUN, "start", None
    )


def test_a_branch_run_knows_the_items_around_it():
    inner = RUN.in_branch("f", "outer", 3).in_branch("f", "inner", 5)
    assert inner.branch_path == (("f", 0, "outer", 3), ("f", 0, "inner", 5))
    assert RUN.branch_path == ()
