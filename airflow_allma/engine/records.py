"""Records of step executions, for logs and pages."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_allma.engine.outside_calls import NO_CALLS, OutsideCalls

__all__ = ["StepRecord"]


# A struct, like all that is created for every step of every item.
class StepRecord(msgspec.Struct, frozen=True, gc=False):
    """One finished execution of a step. Values are the flow's own: mask and shorten them before showing them.

    Attributes:
        step_id: the step.
        step_type: its type.
        input: the step's input after mappings and literals, or None if it failed before.
        output: its output without ``_meta``. Of a step that failed, the output that ``outputValidation`` has
            refused, or None.
        meta: what the handler reported about the call (``_meta``).
        error: ``{errorName, errorMessage, errorDetails, isRetryable}``, or None.
        next_step: the step at which the run continues, or None at the end of the path.
        seconds: duration, delays and retries included.
        tries: how often the handler was called.
        branch_id: the branch, inside one.
        item_index: the item's index, inside a branch.
        calls: what the step did outside of the flow, in all tries.
        flow_id: its flow, if a step of another flow runs it.
        checkpoint: with a step that marks one, the last checkpoint that the run has passed.
        at: when it began, in seconds since the epoch.
        within: in a trace, where the step ran inside of the traced path: fork, branch and index of the item
            of each fork around it, the outermost first.
    """

    step_id: str
    step_type: str
    input: dict[str, Any] | None
    output: Any
    error: dict[str, Any] | None
    next_step: str | None
    seconds: float
    tries: int = 1
    meta: dict[str, Any] = {}
    branch_id: str | None = None
    item_index: int | None = None
    calls: OutsideCalls = NO_CALLS
    flow_id: str | None = None
    checkpoint: dict[str, Any] | None = None
    at: float = 0.0
    within: tuple[tuple[str, str, int], ...] = ()
