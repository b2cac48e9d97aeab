"""The error for what a request names and what does not exist."""

from __future__ import annotations

from airflow_allma.exceptions import AllmaError

__all__ = ["NotFoundError"]


class NotFoundError(AllmaError):
    """A request names a Dag, a run, a step, a fork or an item that does not exist; answered with 404."""
