"""Records of step runs, for logs and pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["StepRecord"]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One run of one step, finished. Values are the flow's own: mask and bound them before they are shown.

    Attributes:
        step_id: the step.
        step_type: its type.
        input: the step's input after mappings and literals, or None when it failed before.
        output: its output without ``_meta``, or None when it failed.
        meta: what the handler said about the call beside its output (``_meta``).
        error: ``{errorName, errorMessage, errorDetails, isRetryable}``, or None.
        next_step: where the run goes on, or None at the end of the path.
        seconds: from start to end, waits and retries included.
        tries: how often the handler ran.
        branch_id: the branch, inside one.
        item_index: the item's place, inside a branch.
    """

    step_id: str
    step_type: str
    input: dict[str, Any] | None
    output: Any
    error: dict[str, Any] | None
    next_step: str | None
    seconds: float
    tries: int = 1
    meta: dict[str, Any] = field(default_factory=dict)
    branch_id: str | None = None
    item_index: int | None = None
