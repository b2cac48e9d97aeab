"""A poll that goes on in another process, from the details of its wait alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.outside_calls import describe
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.api_request import send_request
from airflow_allma.engine.steps.polling import PollProgress, PollRules, poll_once
from airflow_allma.engine.steps.request_plan import RequestPlan
from airflow_allma.exceptions import PermanentStepError, PollingFailedError, StepError
from airflow_allma.expressions.pointer_access import refuse_to_load

__all__ = ["MAX_OUTPUT_BYTES", "FrozenPoll"]

MAX_OUTPUT_BYTES: Final = 32 * 1024
"""A larger response does not go through the database; the worker repeats the call."""


class FrozenPoll:
    """A poll without its flow and its run.

    Attributes:
        progress: how far it is.
        makes_calls: whether the details contain the request; if not, only the worker can send it.

    Args:
        details: of the wait.
        step_id: the step, for messages.
        services: HTTP client, secrets, clock and log.
    """

    def __init__(self, details: Mapping[str, Any], step_id: str, services: Services) -> None:
        self.progress = PollProgress.from_dict(details["progress"])
        self._rules = PollRules.from_dict(details["rules"])
        self._request: Mapping[str, Any] | None = details.get("request")
        self._step_id = step_id
        self._services = services
        self.makes_calls = self._request is not None

    @property
    def saved(self) -> dict[str, Any]:
        """The progress as a JSON value."""
        return self.progress.to_dict()

    def restore(self, saved: Any) -> None:
        """Go on from a later progress of the same poll, a JSON value; anything else is ignored."""
        try:
            progress = PollProgress.from_dict(saved)
        except msgspec.ValidationError:
            return
        if progress.key == self.progress.key and progress.calls >= self.progress.calls:
            self.progress = progress

    async def next(self) -> dict[str, Any] | None:
        """Make the next call.

        Returns:
            None if the poll goes on at ``progress.due``; otherwise the answer to the wait: ``progress``, and
            ``output``, ``error``, or ``repeat`` if the worker has to repeat the call.
        """
        before = self.saved
        try:
            output = await self._poll()
        except Exception as error:  # noqa: BLE001 - the worker decides about everything else
            return self._answer_to(step_error_from(error), before)
        if output is None:
            self._log_call()
            return None
        # ``_meta`` included: the worker needs all that a call of its own would have returned.
        if len(msgspec.json.encode(output)) > MAX_OUTPUT_BYTES:
            return {"progress": before, "repeat": True}
        return {"progress": self.saved, "output": output}

    def _log_call(self) -> None:
        if self.progress.last:
            self._services.log.info(
                "%s (step %s, call %d of %d; next call in %.0f s)",
                describe(self.progress.last[-1]),
                self._step_id,
                self.progress.calls,
                self._rules.max_attempts,
                self.progress.due - self._services.now(),
            )

    async def _poll(self) -> dict[str, Any] | None:
        request = self._request
        if request is None:
            raise PermanentStepError("This poll has no request.")
        plan, root = RequestPlan.thaw(request["plan"])
        info = RunInfo("", 0, "", "")
        call = StepCall(self._step_id, {}, root, info, self._services, refuse_to_load(self._step_id))
        call.calls.restore(self.progress.last, self.progress.requests)
        return await poll_once(
            self._rules,
            self.progress,
            call,
            lambda: send_request(
                call,
                plan,
                root,
                method=request["method"],
                body=request.get("body"),
                timeout=request.get("timeout"),
            ),
        )

    def _answer_to(self, error: StepError, before: dict[str, Any]) -> dict[str, Any]:
        # The worker can do more: read larger bodies, and know why a connection is not found.
        if not isinstance(error, PollingFailedError) and not _is_refusal(error):
            return {"progress": before, "repeat": True}
        shown = self._services.secrets.mask_error(error)
        return {"progress": self.saved, "error": shown.as_dict()}


def _is_refusal(error: StepError) -> bool:
    """Return whether the API itself has refused the request."""
    status = error.details.get("status")
    return isinstance(status, int) and status >= 300
