"""The names of the run itself that expressions can read, besides its data."""

from __future__ import annotations

from typing import Final

__all__ = ["STATE_NAMES"]

STATE_NAMES: Final = frozenset(
    {
        "branchId",
        "completedStepCount",
        "currentContextData",
        "currentStepInstanceId",
        "depth",
        "enableExecutionLogs",
        "endTime",
        "errorInfo",
        "executionKind",
        "flowDefinitionId",
        "flowDefinitionVersion",
        "flowExecutionId",
        "parentFlowExecutionId",
        "parentStepInstanceId",
        "reachedCheckpoint",
        "rootFlowExecutionId",
        "startTime",
        "status",
        "stepRetryAttempts",
        "transitionCounts",
    }
)
"""Names that have a value in a run, those of a branch or a parent only in a run that has one."""
