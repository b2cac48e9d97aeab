"""The setting ``customConfig.timeoutMs`` of steps that send HTTP requests."""

from __future__ import annotations

from typing import Any

from airflow_allma.exceptions import PermanentStepError

__all__ = ["timeout_seconds"]


def timeout_seconds(milliseconds: Any) -> float | None:
    """Return the timeout in seconds, or None.

    Args:
        milliseconds: the setting; None if it is not set.

    Raises:
        PermanentStepError: it is not a number above 0.
    """
    if milliseconds is None:
        return None
    is_number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    if not is_number or not 0 < milliseconds < float("inf"):
        raise PermanentStepError(
            "customConfig.timeoutMs must be a number of milliseconds above 0, such as 10000."
        )
    return float(milliseconds / 1000)
