"""Handler of POLL_EXTERNAL_API: one HTTP request, repeated until its response says that the job is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from uuid import uuid4

import msgspec

from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.api_request import DEFAULT_TIMEOUT_SECONDS, ApiRequest
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.engine.steps.polling import CALL_TRIES, PollProgress, PollRules, poll_once
from airflow_allma.engine.suspension import SuspendReason, SuspendStep, Wait
from airflow_allma.exceptions import PermanentStepError, PollingFailedError
from airflow_allma.expressions import NOTHING
from airflow_allma.flow import PollExternalApiStep

__all__ = ["MAX_FROZEN_BYTES", "PollApi"]

MAX_FROZEN_BYTES: Final = 16 * 1024
"""A larger request does not go into the table of triggers; the worker itself sends it each time."""


class PollApi(AsyncHandler):
    """Handler of POLL_EXTERNAL_API steps; the output is ``{"status", "headers", "data"}`` of the last call.

    Each call of the handler makes at most one call of the API and then suspends the run. What drives the run
    can make further ones itself: the answer to such a wait is what ``FrozenPoll.next`` returns.
    """

    notes_data: ClassVar[bool] = True
    suspends = True

    def __init__(self, step: PollExternalApiStep) -> None:
        self._request = ApiRequest(step.api_call_definition, step.custom_config)
        config, conditions = step.polling_config, step.exit_conditions
        self._rules = PollRules(
            config.interval_seconds,
            config.max_attempts,
            conditions.success_condition,
            conditions.failure_condition,
        )
        self.bounds_itself = self._request.timeout_ms is not None
        if not self._request.plan.needs_secrets:
            self.max_seconds = CALL_TRIES * DEFAULT_TIMEOUT_SECONDS + 20.0

    async def __call__(self, call: StepCall) -> Any:
        """Return the response with which polling succeeded.

        Raises:
            SuspendStep: the next call is due later.
            PollingFailedError: polling ended without success.
            StepError: as ``send_request``, if more calls do not help.
        """
        if call.saved is None:
            progress, frozen = self._begin(call)
            return await self._call(call, progress, frozen)
        progress = PollProgress.from_dict(call.saved["progress"])
        frozen = call.saved.get("request")
        answer = call.services.answers.take(SuspendReason.POLL, progress.key)
        is_due = call.services.now() >= progress.due
        if answer is not NOTHING:
            if "progress" in answer:
                progress = PollProgress.from_dict(answer["progress"])
            call.calls.restore(progress.last, progress.requests)
            if "output" in answer:
                return answer["output"]
            if "error" in answer:
                raise _error_from(answer["error"])
            if "failed" in answer:
                raise PollingFailedError(
                    f"Polling failed in the triggerer after call {progress.calls}: {answer['failed']}. Check "
                    "that the triggerer has the same packages as the workers, and its log.",
                    details={"cause": "triggerer", "calls": progress.calls},
                )
            if answer.get("repeat"):
                # What another process cannot do once, it cannot do the next time.
                is_due, frozen = True, None
            else:
                is_due = call.services.now() >= progress.due
        else:
            call.calls.restore(progress.last, progress.requests)
        if not is_due:
            raise self._suspended(call, progress, frozen)
        try:
            return await self._call(call, progress, frozen)
        except PointerNotLoaded:
            # The handler is called again once the pointer is loaded, and then needs the answer again.
            if answer is not NOTHING:
                call.services.answers.put(SuspendReason.POLL, progress.key, answer)
            raise

    def _begin(self, call: StepCall) -> tuple[PollProgress, dict[str, Any] | None]:
        now = call.services.now()
        timeout = timeout_seconds(self._request.timeout_ms) or DEFAULT_TIMEOUT_SECONDS
        progress = PollProgress(uuid4().hex, now, self._rules.deadline(now, timeout))
        # Before the first call: a pointer that has to be loaded must not cause a second one.
        frozen = self._freeze(call, timeout) if self._rules.max_attempts > 1 else None
        return progress, frozen

    def _freeze(self, call: StepCall, timeout: float) -> dict[str, Any] | None:
        root = call.root()
        plan = self._request.plan.freeze(call, root)
        if plan is None:
            return None
        frozen: dict[str, Any] = {"plan": plan, "method": self._request.method}
        if (body := self._request.body_value(root, call.load)) is not None:
            frozen["body"] = body
        if self._request.timeout_ms is not None:
            frozen["timeout"] = timeout
        try:
            return frozen if len(msgspec.json.encode(frozen)) <= MAX_FROZEN_BYTES else None
        except (TypeError, ValueError):
            return None

    async def _call(self, call: StepCall, progress: PollProgress, frozen: dict[str, Any] | None) -> Any:
        output = await poll_once(self._rules, progress, call, lambda: self._request.send(call, call.root()))
        if output is None:
            raise self._suspended(call, progress, frozen)
        return output

    def _suspended(
        self, call: StepCall, progress: PollProgress, frozen: dict[str, Any] | None
    ) -> SuspendStep:
        saved: dict[str, Any] = {"progress": progress.to_dict()}
        if frozen is not None:
            saved["request"] = frozen
        wait = Wait(
            SuspendReason.POLL,
            progress.key,
            until=progress.due,
            since=progress.since,
            step_id=call.step_id,
            branch_id=call.info.branch_id,
            item_index=call.info.item_index,
            details={**saved, "rules": self._rules.to_dict()},
        )
        return SuspendStep((wait,), saved)


def _error_from(shown: Mapping[str, Any]) -> PollingFailedError | PermanentStepError:
    """Return the error that a trigger reported."""
    kind = PollingFailedError if shown["errorName"] == PollingFailedError.default_name else PermanentStepError
    return kind(shown["errorMessage"], details=shown["errorDetails"], error_name=shown["errorName"])
