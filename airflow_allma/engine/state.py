"""The state of a run: its next step, its data, and the result of running a segment of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

import msgspec

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.engine.suspension import SuspendedStep, Wait
from airflow_allma.expressions import NOTHING, compile_path

__all__ = [
    "RunInfo",
    "RunParent",
    "RunState",
    "SegmentResult",
    "SegmentStatus",
    "member_path",
    "state_view",
    "visits",
]


# Structs, not dataclasses: one of each is created for every item of a fork, and structs are created faster.
# They are never part of a reference cycle, so the garbage collector need not track them either.
class RunParent(msgspec.Struct, frozen=True, gc=False):
    """What a run knows about the run whose step started it.

    Attributes:
        root_id: the id of the run in which all of this began, which no step started.
        flow_execution_id: the id of the run whose step started this one.
        step_id: that step.
        depth: how many flows are around this one: 1 for a flow that a root run starts.
        kind: how the run was started, an ``ExecutionKind``.
    """

    root_id: str
    flow_execution_id: str
    step_id: str
    depth: int
    kind: str


class RunInfo(msgspec.Struct, frozen=True, gc=False):
    """What does not change during a run, or during one branch run.

    Attributes:
        flow_id: the flow's id.
        flow_version: its version.
        flow_execution_id: this run's id, the same over retries.
        start_time: when the run started, ISO 8601 in UTC with milliseconds and ``Z``.
        branch_id: the branch, inside one.
        item_index: the item's index, inside a branch; part of error details.
        enable_execution_logs: the flow's ``enableExecutionLogs``.
        fork_depth: how many forks are around this, which is a branch run of the innermost one.
        stored_under: the identifiers that begin the keys of everything the run stores; None for the flow's id
            and the run's.
        outer: inside a branch, the run in which its fork is.
        fork_id: inside a branch, its fork.
        fork_visit: how often the run had left the fork before, for the branch runs of a fork in a loop.
        parent: the run whose step started this one; None for a run that no step started.
    """

    flow_id: str
    flow_version: int
    flow_execution_id: str
    start_time: str
    branch_id: str | None = None
    item_index: int | None = None
    stored_under: tuple[str, ...] | None = None
    fork_depth: int = 0
    enable_execution_logs: bool = False
    outer: RunInfo | None = None
    parent: RunParent | None = None
    fork_id: str = ""
    fork_visit: int = 0

    @property
    def depth(self) -> int:
        """How many flows are around this one."""
        return 0 if self.parent is None else self.parent.depth

    @property
    def root_id(self) -> str:
        """The id of the run in which all of this began, which no step started."""
        return self.flow_execution_id if self.parent is None else self.parent.root_id

    @property
    def branch_path(self) -> tuple[tuple[str, int, str, int], ...]:
        """Return fork, visit of it, branch and item of each branch run around this, the outermost first."""
        if self.branch_id is None or self.outer is None:
            return ()
        own = (self.fork_id, self.outer.fork_visit, self.branch_id, self.item_index or 0)
        return (*self.outer.branch_path, own)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The beginning of the keys of everything the run stores; no two runs have the same."""
        return self.stored_under or (self.flow_id, self.flow_execution_id)

    @classmethod
    def now(
        cls, flow_id: str, flow_version: int, flow_execution_id: str, *, enable_execution_logs: bool = False
    ) -> Self:
        """Return the info of a run that starts at this moment."""
        return cls(
            flow_id,
            flow_version,
            flow_execution_id,
            iso_milliseconds(datetime.now(UTC)),
            enable_execution_logs=enable_execution_logs,
        )

    def in_branch(self, fork_id: str, branch_id: str, item_index: int) -> RunInfo:
        """Return the info of the same run inside a branch of a fork."""
        return RunInfo(
            self.flow_id,
            self.flow_version,
            self.flow_execution_id,
            self.start_time,
            branch_id,
            item_index,
            self.stored_under,
            self.fork_depth + 1,
            self.enable_execution_logs,
            self,
            self.parent,
            fork_id,
        )


def visits(step_id: str, state: RunState | None) -> int:
    """Return how often a run has left a step; 0 before it begins."""
    counts = state.transition_counts if state is not None else None
    if not counts:
        return 0
    return sum([count for counter, count in counts.items() if counter.rpartition(":")[0] == step_id])


_RUNNING: Final = "RUNNING"
_ROOT: Final = "ROOT"


def state_view(
    info: RunInfo,
    context: Mapping[str, Any],
    step_id: str | None = None,
    state: RunState | None = None,
    tries: int = 1,
) -> dict[str, Any]:
    """Return the run as expressions see it, under ``state_names.STATE_NAMES``.

    Args:
        info: the run.
        context: its data.
        step_id: the step that runs; None between steps.
        state: the run's state, inside a branch the branch run's; None before a branch run begins.
        tries: how often the step was called in this task, this time included.
    """
    counts = state.transition_counts if state is not None else {}
    view: dict[str, Any] = {
        "flowDefinitionId": info.flow_id,
        "flowDefinitionVersion": info.flow_version,
        "flowExecutionId": info.flow_execution_id,
        "startTime": info.start_time,
        "status": _RUNNING,
        "currentContextData": context,
        "enableExecutionLogs": info.enable_execution_logs,
        "rootFlowExecutionId": info.root_id,
        "depth": info.depth,
        "executionKind": _ROOT if info.parent is None else info.parent.kind,
        # One transition is taken after each step.
        "completedStepCount": sum(counts.values()) if counts else 0,
        "transitionCounts": dict(counts),
        "stepRetryAttempts": {step_id: tries - 1} if step_id is not None and tries > 1 else {},
    }
    if step_id is not None:
        view["currentStepInstanceId"] = step_id
    if info.parent is not None:
        view["parentFlowExecutionId"] = info.parent.flow_execution_id
        view["parentStepInstanceId"] = info.parent.step_id
    if info.branch_id is not None:
        view["branchId"] = info.branch_id
    if state is not None and state.checkpoint is not None:
        view["reachedCheckpoint"] = state.checkpoint
    if state is not None and state.ended is not None:
        view |= state.ended
    return view


def member_path(parent: str, name: str) -> str:
    """Return the JSONPath of an object's member, whatever its name."""
    if name.isidentifier():
        return f"{parent}.{name}"
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{parent}['{quoted}']"


class SegmentStatus(StrEnum):
    """How a segment of a run ended."""

    LEFT = "LEFT"
    """The run continues at a step outside the segment."""
    COMPLETED = "COMPLETED"
    """The path has ended: no next step, or END_FLOW."""
    FAILED = "FAILED"
    """A step failed, and the flow does not handle it."""
    RETRY = "RETRY"
    """A step failed and the caller can retry it; the state is that before the step."""
    SUSPENDED = "SUSPENDED"
    """The run waits for something outside. Running the segment again with the same state continues it."""


class RunState(msgspec.Struct, gc=False):
    """The current state of a run. Contexts are never changed in place: every write makes a new root.

    Attributes:
        next_step: the step that runs next, or None at the end of the path.
        context: the data, ``currentContextData``.
        transition_counts: how often each transition was taken, by ``<step>:<n>`` or ``<step>:default``.
        path: the steps that ran, in order.
        last_output: output of the last step that ran, without ``_meta``; NOTHING before the first.
        output_mapped: whether a step that ran maps something to the context's ``output``.
        last_meta: the ``_meta`` of that step's output; only kept for records.
        journal: None, or every write as ``[target, value]``, so that what a branch itself has set can travel
            without the context it started from.
        context_is_read: whether the context is read once the path has ended; if not, the last step's output
            is not written to it.
        suspended: the step that waits, if the run is suspended; it is the next step.
        ended: what expressions see of the run's end (``status``, ``endTime``, ``errorInfo``), for the actions
            after it; None before. It is not saved.
        checkpoint: the last checkpoint that the run has passed, as expressions see it; None for none.
    """

    next_step: str | None
    context: dict[str, Any]
    transition_counts: dict[str, int] = {}
    path: list[str] = []
    last_output: Any = NOTHING
    output_mapped: bool = False
    last_meta: dict[str, Any] | None = None
    journal: list[list[Any]] | None = None
    context_is_read: bool = True
    suspended: SuspendedStep | None = None
    ended: Mapping[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None

    @classmethod
    def start(
        cls,
        start_step: str,
        payload: Mapping[str, Any],
        flow_variables: Mapping[str, Any],
        flow_execution_id: str,
    ) -> Self:
        """Return the state in which a run begins.

        Args:
            start_step: the first step.
            payload: the run's payload; its keys are at the root and under ``initialContextData``.
            flow_variables: the flow's own; the payload's ``flow_variables`` override them.
            flow_execution_id: becomes ``flow_variables.flowExecutionId``.
        """
        variables = {**flow_variables, "flowExecutionId": flow_execution_id}
        overrides = payload.get("flow_variables")
        if overrides is not None and isinstance(overrides, Mapping):
            variables = {**flow_variables, **overrides, "flowExecutionId": flow_execution_id}
        context = {
            **payload,
            "initialContextData": dict(payload),
            "steps_output": {},
            "flow_variables": variables,
        }
        return cls(start_step, context)

    def write(self, target: str, value: Any, load: Any = None) -> None:
        """Set a value at a JSONPath of the context.

        Raises:
            ExpressionEvaluationError: the path matches several members, or leads into a scalar.
        """
        path = compile_path(target)
        if self.journal is None:
            self.context = path.assign_shared(self.context, value, load)
            return
        followed_pointer = False

        def watched(inner: Mapping[str, Any]) -> Any:
            nonlocal followed_pointer
            followed_pointer = True
            return load(inner)

        before = self.context
        self.context = path.assign_shared(before, value, watched if load is not None else None)
        if not followed_pointer:
            self.journal.append([target, value])
            return
        # The replaying process has no store: the content of pointers on the way travels with the write.
        for name, member in self.context.items():
            if member is not before.get(name, NOTHING):
                self.journal.append([member_path("$", name), member])

    def replay(self, journal: list[list[Any]], load: Any = None) -> None:
        """Apply the writes of a journal to this context."""
        for target, value in journal:
            self.write(target, value, load)

    def copy(self) -> RunState:
        """Return a state that can be advanced on its own."""
        return RunState(
            self.next_step,
            self.context,
            dict(self.transition_counts),
            list(self.path),
            self.last_output,
            self.output_mapped,
            self.last_meta,
            None if self.journal is None else list(self.journal),
            self.context_is_read,
            self.suspended,
            self.ended,
            self.checkpoint,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a JSON object. With a journal, without the context: ``replay`` restores it."""
        saved: dict[str, Any] = {
            "nextStep": self.next_step,
            "transitionCounts": self.transition_counts,
            "path": self.path,
            "outputMapped": self.output_mapped,
        }
        if self.last_output is not NOTHING:
            saved["lastOutput"] = self.last_output
        if self.journal is None:
            saved["context"] = self.context
        else:
            saved["journal"] = self.journal
        if self.suspended is not None:
            saved["suspended"] = self.suspended.to_dict()
        if self.checkpoint is not None:
            saved["checkpoint"] = self.checkpoint
        return saved

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], base_context: Mapping[str, Any] | None = None) -> Self:
        """Restore the state that ``to_dict`` saved.

        Args:
            saved: what ``to_dict`` returned.
            base_context: for a state with a journal, the context that the branch started from (with
                ``currentItem``).
        """
        state = cls(
            next_step=saved["nextStep"],
            context=dict(saved["context"]) if "context" in saved else dict(base_context or {}),
            transition_counts=dict(saved["transitionCounts"]),
            path=list(saved["path"]),
            last_output=saved.get("lastOutput", NOTHING),
            output_mapped=saved["outputMapped"],
        )
        if "journal" in saved:
            state.journal = []
            state.replay(saved["journal"])
        if "suspended" in saved:
            state.suspended = SuspendedStep.from_dict(saved["suspended"])
        state.checkpoint = saved.get("checkpoint")
        return state


class SegmentResult(msgspec.Struct, frozen=True, gc=False):
    """The result of running a segment.

    Attributes:
        status: how it ended.
        state: the run's state now.
        error: with FAILED and RETRY: ``{errorName, errorMessage, errorDetails, isRetryable}``.
        waits: with SUSPENDED: what the run waits for: exactly one poll or run, or one or more events.
    """

    status: SegmentStatus
    state: RunState
    error: dict[str, Any] | None = None
    waits: tuple[Wait, ...] = ()

    @property
    def next_step(self) -> str | None:
        """With LEFT: the step outside the segment at which the run continues."""
        return self.state.next_step

    @property
    def output(self) -> Any:
        """The last step's output, without ``_meta``; None when no step ran."""
        return None if self.state.last_output is NOTHING else self.state.last_output
