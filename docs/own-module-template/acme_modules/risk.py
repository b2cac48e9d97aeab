"""``acme/risk-score``: a score of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma import PermanentStepError

if TYPE_CHECKING:
    from airflow_allma import ModuleCall


def score(inputs: dict[str, Any], call: ModuleCall) -> dict[str, Any]:
    """Return ``{"score", "band"}`` of an age; ``limit`` is the first score of the band "high"."""
    age = inputs.get("age")
    if not isinstance(age, int):
        # Retries do not help; a TransientStepError would be retried.
        raise PermanentStepError(f"age must be a whole number; it is {type(age).__name__}.")
    points = min(100, age * 2)
    call.log.info("Scored %d points in run %s", points, call.flow_execution_id)
    return {"score": points, "band": "high" if points >= inputs.get("limit", 80) else "low"}
