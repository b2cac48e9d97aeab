"""Runs that a step starts: what the step asks for, who starts it, and how it ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, Self

import msgspec

from airflow_allma.engine.state import RunInfo, RunParent, RunState, visits
from airflow_allma.exceptions import PermanentStepError

__all__ = [
    "LATEST_VERSION",
    "MAX_FLOW_DEPTH",
    "ExecutionKind",
    "RunOutcome",
    "RunStarter",
    "StartRequest",
    "StartedRun",
    "StepStarts",
    "check_flow_depth",
    "execution_key",
    "parent_of_child",
]

LATEST_VERSION: Final = "LATEST_PUBLISHED"
"""The version of a flow that runs if a step names none."""

MAX_FLOW_DEPTH: Final = 50
"""How many flows can be around a flow that another one starts, in one process or as runs of their own."""


class ExecutionKind(StrEnum):
    """How a run was started, as expressions see it under ``executionKind``."""

    ROOT = "ROOT"
    SYNC_SUBFLOW = "SYNC_SUBFLOW"
    ASYNC_SUBFLOW = "ASYNC_SUBFLOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A run that a step starts.

    Attributes:
        flow_id: the flow to run.
        version: its version, as a string, or ``LATEST_VERSION``.
        payload: the run's payload.
        key: identifies the start among all of the parent's; see ``execution_key``. The same key always makes
            the same run, so that a step that runs again starts nothing twice.
        parent: the run that starts it.
        step_id: the step that starts it.
        kind: whether the step waits for its end.
        flow_execution_id: the id of the new run; None for one that is made from ``key``.
        trigger_source: what the flow says about where the run comes from.
        enable_execution_logs: whether the new run keeps records of its steps; None for the flow's own value.
    """

    flow_id: str
    payload: dict[str, Any]
    key: str
    parent: RunInfo
    step_id: str
    kind: ExecutionKind
    version: str = LATEST_VERSION
    flow_execution_id: str | None = None
    trigger_source: str | None = None
    enable_execution_logs: bool | None = None


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that was started.

    Attributes:
        flow_execution_id: its id.
        dag_id: its Dag.
        run_id: its run id.
    """

    flow_execution_id: str
    dag_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        context: its final context; None if it failed.
        error: the four fields of the error with which it failed; None if it did not.
    """

    context: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class RunStarter(Protocol):
    """Starts runs of flows."""

    def can_wait(self, info: RunInfo) -> bool:
        """Return whether a step of this run, or branch run, can wait for a run of its own.

        If it cannot, the other flow runs in the step's process.
        """

    async def start(self, request: StartRequest) -> StartedRun:
        """Start a run, unless the same request has started it before.

        A request that waits for the end (``SYNC_SUBFLOW``) also runs it again if it had failed.

        Raises:
            PermanentStepError: the flow cannot be started, or not with this payload or version.
            TransientStepError: nobody answers; the same request may succeed later.
        """

    async def outcome(self, started: StartedRun) -> RunOutcome | None:
        """Return how a run ended; None while it is running.

        Raises:
            PermanentStepError: the run does not exist any more, or its data cannot be read.
        """


def check_flow_depth(step_id: str, flow_id: str, parent: RunInfo) -> None:
    """Refuse a flow that would be nested too deeply.

    Args:
        step_id: the step that runs or starts it.
        flow_id: the flow.
        parent: the run of the step.

    Raises:
        PermanentStepError: there are ``MAX_FLOW_DEPTH`` flows around it already.
    """
    if parent.depth >= MAX_FLOW_DEPTH:
        raise PermanentStepError(
            f"Step {step_id}: flows are nested more than {MAX_FLOW_DEPTH} deep, with flow {flow_id!r} as the "
            "next. If flows run or start each other, a condition must end that.",
            details={"maxDepth": MAX_FLOW_DEPTH},
        )


class StepStarts(msgspec.Struct, frozen=True, gc=False):
    """What all runs that a step starts for the items of a fork have in common: made once for many.

    Attributes:
        step_id: the step.
        outer: the run in which the fork is; None outside of forks.
        fork_id: that fork; empty outside of forks.
        branch_id: the branch of the step; None outside of forks.
        parent: what a run in the step's process knows of the run of the step.
        root_keys: the identifiers that begin the keys of everything stored by the run that no step started.
        around: the beginning of the text of an execution key, up to the item.
    """

    step_id: str
    outer: RunInfo | None
    fork_id: str
    branch_id: str | None
    parent: RunParent
    root_keys: tuple[str, ...]
    around: str

    @classmethod
    def of(cls, info: RunInfo, step_id: str) -> Self:
        """Return what is common to the runs that a step starts.

        Args:
            info: the run of the step, or its branch run.
            step_id: the step.
        """
        # With their lengths, so that no two lists of parts have the same text.
        around = f"{len(info.flow_execution_id)}:{info.flow_execution_id}"
        outer, branch_id = info.outer, info.branch_id
        if branch_id is not None and outer is not None:
            for fork, visit, branch, item in outer.branch_path:
                around += f"{len(fork)}:{fork}{visit},{len(branch)}:{branch}{item},"
            around += f"{len(info.fork_id)}:{info.fork_id}{outer.fork_visit},{len(branch_id)}:{branch_id}"
        parent = parent_of_child(info, step_id, ExecutionKind.SYNC_SUBFLOW)
        root_keys = info.key_ids if info.parent is None else info.key_ids[:-1]
        return cls(step_id, outer, info.fork_id, branch_id, parent, root_keys, around)

    def includes(self, info: RunInfo) -> bool:
        """Return whether the step's runs for another branch run have all of this in common."""
        return (
            self.outer is not None
            and info.outer is self.outer
            and info.fork_id == self.fork_id
            and info.branch_id == self.branch_id
        )

    def key(self, info: RunInfo, state: RunState | None) -> str:
        """Return the ``execution_key`` of one run."""
        step_id, count = self.step_id, str(visits(self.step_id, state))
        item = f"{info.item_index or 0}," if self.outer is not None and self.branch_id is not None else ""
        text = f"{self.around}{item}{len(step_id)}:{step_id}{len(count)}:{count}"
        return hashlib.sha256(text.encode()).hexdigest()


def parent_of_child(info: RunInfo, step_id: str, kind: ExecutionKind) -> RunParent:
    """Return what a run that a step starts knows of the run of that step."""
    return RunParent(info.root_id, info.flow_execution_id, step_id, info.depth + 1, kind.value)


def execution_key(info: RunInfo, step_id: str, state: RunState | None) -> str:
    """Return what identifies one execution of a step among all executions of all steps of all runs.

    It is made from the run, the forks and items of the branch runs around the step, the step, and how often
    the run has left the step before. It is the same when the step runs again after a failure or a lost
    process.

    Args:
        info: the run, or the branch run.
        step_id: the step.
        state: the state before the step; None counts as its first visit.
    """
    return StepStarts.of(info, step_id).key(info, state)
