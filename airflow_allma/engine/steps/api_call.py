"""Handler of API_CALL: one HTTP request, built from the flow's data."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.api_request import DEFAULT_TIMEOUT_SECONDS, ApiRequest
from airflow_allma.engine.steps.request_plan import READING_METHODS
from airflow_allma.flow import ApiCallStep

__all__ = ["ApiCall"]


class ApiCall(AsyncHandler):
    """Handler of API_CALL steps; the output is ``{"status", "headers", "data"}``.

    Everything is evaluated before the request is sent, so that a pointer that has to be loaded first does not
    cause a second request.
    """

    notes_data: ClassVar[bool] = True

    def __init__(self, step: ApiCallStep) -> None:
        self._request = ApiRequest(step, step.custom_config)
        self.has_side_effects = self._request.method not in READING_METHODS
        self.bounds_itself = self._request.timeout_ms is not None
        # With a connection or Variables, a call also waits for those.
        self.max_seconds = None if self._request.plan.needs_secrets else DEFAULT_TIMEOUT_SECONDS

    def __call__(self, call: StepCall) -> Coroutine[Any, Any, Any]:
        """Send the request and return the response; raises as ``send_request``."""
        return self._request.send(call, self._request.root(call))
