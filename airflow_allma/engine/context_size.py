"""The size of a run's data, which grows from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.work_budget import MEASURE_AFTER, current_budget
from airflow_allma.exceptions import PermanentStepError

__all__ = ["check_context_size", "context_too_large", "json_size_up_to"]

_SCALAR_BYTES: Final = 4
"""A number, a boolean or null with its comma, roughly."""


def check_context_size(step_id: str, context: Mapping[str, Any], max_bytes: int) -> None:
    """Measure the data if the steps since the last time can have made it much larger.

    Raises:
        PermanentStepError: it is larger than ``max_bytes`` of JSON.
    """
    budget = current_budget()
    if budget is None or not max_bytes or budget.points_since_measured < budget.measure_after:
        return
    size = json_size_up_to(context, max_bytes)
    if size > max_bytes:
        raise context_too_large(step_id, max_bytes)
    # Measuring must not take longer than the work that it follows.
    budget.measured(after=max(MEASURE_AFTER, size))


def context_too_large(step_id: str, max_bytes: int) -> PermanentStepError:
    """Return the error for a step after which the run's data is too large."""
    return PermanentStepError(
        f"Step {step_id}: with its output the run's data exceeds [allma] max_context_bytes = {max_bytes} "
        "bytes of JSON. Keep only what later steps read (outputMappings), store large values as objects "
        "(forceS3Offload), or raise the setting.",
        details={"maxContextBytes": max_bytes},
    )


def json_size_up_to(value: Any, limit: int) -> int:
    """Return the approximate bytes of a value's JSON, or some number above ``limit`` if it is larger."""
    size = 0
    pending = [value]
    while pending and size <= limit:
        node = pending.pop()
        if isinstance(node, str):
            size += len(node) + 2
        elif isinstance(node, Mapping):
            size += 2 + sum(map(len, node)) + 4 * len(node)
            pending.extend(node.values())
        elif isinstance(node, list):
            size += 2 + len(node)
            pending.extend(node)
        else:
            size += _SCALAR_BYTES
    return size
