"""The state of a run: where it stands, its data, and what a segment of it came to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

import msgspec

from airflow_allma.expressions import NOTHING, compile_path

__all__ = [
    "STATE_KEYS",
    "RunInfo",
    "RunState",
    "SegmentResult",
    "SegmentStatus",
    "member_path",
    "state_view",
]


# Structs, not dataclasses: one of each is made for every item of a fork, and these are made faster. No cycle
# of references ever goes through them, so the garbage collector need not look at them either.
class RunInfo(msgspec.Struct, frozen=True, gc=False):
    """What stays the same over a run (or over one branch run).

    Attributes:
        flow_id: the flow's id.
        flow_version: its version.
        flow_execution_id: this run's id, the same over retries.
        start_time: when the run started, ISO 8601 in UTC with milliseconds and ``Z``.
        branch_id: the branch, inside one.
        item_index: the item's place, inside a branch; goes into error details.
        stored_under: the identifiers with which the keys of all that the run stores begin; None: the flow's
            id and the run's.
    """

    flow_id: str
    flow_version: int
    flow_execution_id: str
    start_time: str
    branch_id: str | None = None
    item_index: int | None = None
    stored_under: tuple[str, ...] | None = None

    @property
    def key_ids(self) -> tuple[str, ...]:
        """What the keys of all that the run stores begin with; no two runs have the same."""
        return self.stored_under or (self.flow_id, self.flow_execution_id)

    @classmethod
    def now(cls, flow_id: str, flow_version: int, flow_execution_id: str) -> Self:
        """Of a run that starts at this moment."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(flow_id, flow_version, flow_execution_id, started)

    def in_branch(self, branch_id: str, item_index: int) -> RunInfo:
        """The same run, seen from a branch."""
        return RunInfo(
            self.flow_id,
            self.flow_version,
            self.flow_execution_id,
            self.start_time,
            branch_id,
            item_index,
            self.stored_under,
        )


_RUNNING: Final = "RUNNING"

STATE_KEYS: Final = frozenset(
    {
        "flowDefinitionId",
        "flowDefinitionVersion",
        "flowExecutionId",
        "startTime",
        "status",
        "branchId",
        "currentContextData",
    }
)
"""Names under which expressions see the run itself."""


def state_view(info: RunInfo, context: Mapping[str, Any]) -> dict[str, Any]:
    """The run as expressions see it, under ``STATE_KEYS``."""
    view: dict[str, Any] = {
        "flowDefinitionId": info.flow_id,
        "flowDefinitionVersion": info.flow_version,
        "flowExecutionId": info.flow_execution_id,
        "startTime": info.start_time,
        "status": _RUNNING,
        "currentContextData": context,
    }
    if info.branch_id is not None:
        view["branchId"] = info.branch_id
    return view


def member_path(parent: str, name: str) -> str:
    """The JSONPath of an object's member, whatever its name."""
    if name.isidentifier():
        return f"{parent}.{name}"
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{parent}['{quoted}']"


class SegmentStatus(StrEnum):
    """How a segment of a run ended."""

    LEFT = "LEFT"
    """The run goes on at a step outside the segment."""
    COMPLETED = "COMPLETED"
    """The path has ended: no next step, or END_FLOW."""
    FAILED = "FAILED"
    """A step failed, and nothing in the flow takes it from there."""
    RETRY = "RETRY"
    """A step failed and may be tried again by the caller; the state is what it was before that step."""
    SUSPENDED = "SUSPENDED"
    """The run waits for something outside."""


class RunState(msgspec.Struct, gc=False):
    """Where a run stands. Contexts are never changed in place: every write makes a new root.

    Attributes:
        next_step: the step that runs next, or None at the end of the path.
        context: the data, ``currentContextData``.
        transition_counts: how often each transition was taken, by ``<step>:<n>`` or ``<step>:default``.
        path: the steps that ran, in order.
        last_output: output of the last step that ran, without ``_meta``; NOTHING before the first.
        output_mapped: whether a step that ran maps something to the context's ``output``.
        last_meta: what that step's handler said beside its output (``_meta``); only kept for records.
        journal: None, or every write as ``[target, value]``, so that what a branch itself has set can travel
            without the context it started from.
        context_is_read: whether anybody looks at the context once the path has ended; if not, the last step's
            output need not get there.
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

    @classmethod
    def start(
        cls,
        start_step: str,
        payload: Mapping[str, Any],
        flow_variables: Mapping[str, Any],
        flow_execution_id: str,
    ) -> Self:
        """The state of a run that begins.

        Args:
            start_step: the first step.
            payload: the run's payload; its keys stand at the root and under ``initialContextData``.
            flow_variables: the flow's own; the payload's ``flow_variables`` win over them.
            flow_execution_id: becomes ``flow_variables.flowExecutionId``.
        """
        given = payload.get("flow_variables")
        context = {
            **payload,
            "initialContextData": dict(payload),
            "steps_output": {},
            "flow_variables": {
                **flow_variables,
                **(given if isinstance(given, Mapping) else {}),
                "flowExecutionId": flow_execution_id,
            },
        }
        return cls(start_step, context)

    def write(self, target: str, value: Any, load: Any = None) -> None:
        """Set a value at a JSONPath of the context.

        Raises:
            ExpressionEvaluationError: the path names many places, or a place in something that holds none.
        """
        path = compile_path(target)
        if self.journal is None:
            self.context = path.assign_shared(self.context, value, load)
            return
        opened = False

        def watched(inner: Mapping[str, Any]) -> Any:
            nonlocal opened
            opened = True
            return load(inner)

        before = self.context
        self.context = path.assign_shared(before, value, watched if load is not None else None)
        if not opened:
            self.journal.append([target, value])
            return
        # Who replays this has no store: what pointers on the way stood for travels with the write.
        for name, member in self.context.items():
            if member is not before.get(name, NOTHING):
                self.journal.append([member_path("$", name), member])

    def replay(self, journal: list[list[Any]], load: Any = None) -> None:
        """Make the writes of a journal again, over this context."""
        for target, value in journal:
            self.write(target, value, load)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object. With a journal, the context is left out: ``replay`` brings it back."""
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
        return saved

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], base_context: Mapping[str, Any] | None = None) -> Self:
        """The state that ``to_dict`` saved.

        Args:
            saved: what ``to_dict`` gave.
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
        return state


class SegmentResult(msgspec.Struct, frozen=True, gc=False):
    """What running a segment came to.

    Attributes:
        status: how it ended.
        state: where the run stands now.
        error: with FAILED and RETRY: ``{errorName, errorMessage, errorDetails, isRetryable}``.
    """

    status: SegmentStatus
    state: RunState
    error: dict[str, Any] | None = None

    @property
    def next_step(self) -> str | None:
        """With LEFT: the step outside the segment at which the run goes on."""
        return self.state.next_step

    @property
    def output(self) -> Any:
        """The last step's output, without ``_meta``; None when no step ran."""
        return None if self.state.last_output is NOTHING else self.state.last_output
