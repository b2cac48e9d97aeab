"""The interface of a client for the models of one provider."""

from __future__ import annotations

from typing import Protocol

from airflow_allma.engine.llm.model_request import ModelRequest, ModelResponse
from airflow_allma.engine.step_handler import StepCall

__all__ = ["ModelClient"]


class ModelClient(Protocol):
    """Sends requests to the models of one provider; safe to use from many tasks at once."""

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request, without sending it.

        Raises:
            PermanentStepError: the provider does not support a tool, a media type or the tool choice.
        """

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request, once, and return the answer. The call is recorded in ``call.calls``.

        Args:
            request: a request that ``check`` accepts.
            call: the step's call, which has the services and records the request.
            connection: the id of the Airflow connection; None if no connection is set for the provider.

        Raises:
            RateLimitedError: the call is rate limited (429).
            TransientStepError: no answer, an incomplete one, 5xx or 529.
            PermanentStepError: no connection, a connection that cannot be used, 400, 401, 403, 404, or a
                response that is not the provider's.
        """
