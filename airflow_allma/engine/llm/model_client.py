"""What calls the models of one provider."""

from __future__ import annotations

from typing import Protocol

from airflow_allma.engine.llm.model_request import ModelRequest, ModelResponse
from airflow_allma.engine.step_handler import StepCall

__all__ = ["ModelClient"]


class ModelClient(Protocol):
    """Sends requests to the models of one provider; safe to use from many tasks at once."""

    def check(self, request: ModelRequest) -> None:
        """Return if the provider can serve a request.

        Raises:
            PermanentStepError: it lacks a tool, a kind of media or a choice of tools that is asked for.
        """

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request and return the answer. The call is recorded in ``call.calls``. Nothing is retried.

        Args:
            request: it has passed ``check``.
            call: the step's call; for its services.
            connection: the id of the Airflow connection; None if no connection is set for the provider.

        Raises:
            RateLimitedError: the provider refuses the call for now (429).
            TransientStepError: no answer, an incomplete one, 5xx and 529.
            PermanentStepError: no connection, a connection that cannot be used, 400, 401, 403, 404, or an
                answer that is not the provider's.
        """
