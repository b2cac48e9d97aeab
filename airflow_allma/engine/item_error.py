"""What replaces an item that could not be read."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_allma.exceptions import StepError

__all__ = ["ItemError"]


@dataclass(frozen=True, slots=True)
class ItemError:
    """Replaces an item that could not be read: its branch runs fail with ``error``, other items run."""

    error: StepError
