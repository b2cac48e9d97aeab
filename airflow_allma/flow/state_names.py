"""The names of the run itself that expressions can read, besides its data."""

from __future__ import annotations

from typing import Final

__all__ = ["LATER_STATE_NAMES", "STATE_NAMES"]

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
        "rootFlowExecutionId",
        "startTime",
        "status",
        "stepRetryAttempts",
        "transitionCounts",
    }
)
"""Names that have a value in a run."""

LATER_STATE_NAMES: Final = frozenset({"parentFlowExecutionId"})
"""Further names of the language that have no value here yet."""
