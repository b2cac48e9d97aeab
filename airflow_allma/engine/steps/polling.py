"""The rules of POLL_EXTERNAL_API, in workers and triggerers: when to call, and when polling is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from airflow_allma.common.json_form import JsonForm
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.outside_calls import HttpCall, OutsideCalls
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import AllmaError, PollingFailedError, StepError, TransientStepError
from airflow_allma.expressions.conditions import compile_condition

__all__ = ["CALL_TRIES", "MAX_SHOWN_BYTES", "PollProgress", "PollRules", "poll_once"]

CALL_TRIES: Final = 3
"""How often one call is tried when the API does not answer or is overloaded; then it counts as made."""

_LONGEST_PAUSE: Final = 5.0
"""A longer pause between two tries would be one between two calls."""

_MAX_RETRY_AFTER: Final = 3600.0
MAX_SHOWN_BYTES: Final = 4096
"""How much of the last response an error shows, in bytes of JSON."""

_GRACE_SECONDS: Final = 3600.0
"""How much longer than its calls and intervals a poll can take: an outage of Airflow does not end it."""


class PollRules(JsonForm, msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """How a step polls.

    Attributes:
        interval: seconds from the end of a call to the beginning of the next one.
        max_attempts: how many calls are made.
        success: the condition over the response's body that is checked first.
        failure: the one that is checked second.
    """

    interval: float
    max_attempts: int
    success: str
    failure: str

    def deadline(self, since: float, call_seconds: float) -> float:
        """Return when a poll must be over, in seconds since the epoch.

        Args:
            since: when it began.
            call_seconds: how long one try of a call takes at most.
        """
        return since + self.max_attempts * (self.interval + CALL_TRIES * call_seconds) + _GRACE_SECONDS


class PollProgress(JsonForm, msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    """How far a poll is; JSON without secrets.

    Attributes:
        key: identifies the poll.
        since: when it began, in seconds since the epoch.
        deadline: when it must be over.
        calls: how many calls were made.
        due: when the next one is due.
        requests: how many requests that took, tries of the same call included.
        last: the last of them.
    """

    key: str
    since: float
    deadline: float
    calls: int = 0
    due: float = 0.0
    requests: int = 0
    last: list[HttpCall] = []

    def note_requests(self, calls: OutsideCalls) -> None:
        """Keep what a step did outside."""
        self.requests = calls.count
        self.last = [one for one in calls.last if isinstance(one, HttpCall)]


async def poll_once(
    rules: PollRules, progress: PollProgress, call: StepCall, send: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any] | None:
    """Make the next call of a poll.

    Args:
        rules: when the poll is over.
        progress: is advanced.
        call: the step's call.
        send: sends the request and returns ``{"status", "headers", "data", "_meta"}``.

    Returns:
        The step's output; None if the poll goes on at ``progress.due``.

    Raises:
        PollingFailedError: the failure condition is true, or this was the last call, or it is too late.
        StepError: the request cannot be sent, or its response says that more calls do not help (4xx).
    """
    services = call.services
    if services.now() >= progress.deadline:
        raise _failed(progress, "deadline", "its time is over")
    output, failure = None, None
    try:
        output = await _send_with_tries(call, send)
    except TransientStepError as error:
        failure = error
    progress.calls += 1
    progress.note_requests(call.calls)
    if output is not None:
        if compile_condition(rules.success).matches(output["data"]):
            output["_meta"]["calls"] = progress.calls
            return output
        if compile_condition(rules.failure).matches(output["data"]):
            reason = f"the failure condition {rules.failure!r} is true"
            raise _failed(progress, "failureCondition", reason, output)
    if progress.calls >= rules.max_attempts:
        reason = "no condition became true (pollingConfig.maxAttempts)"
        raise _failed(progress, "maxAttempts", reason, output, failure)
    asked = (failure.retry_after if failure is not None else None) or 0.0
    seconds = max(rules.interval, min(asked, _MAX_RETRY_AFTER))
    progress.due = services.now() + seconds
    if failure is not None:
        call.log.warning(
            "%s (step %s, call %d of %d; next call in %.0f s)",
            services.secrets.mask_error(failure),
            call.step_id,
            progress.calls,
            rules.max_attempts,
            seconds,
        )
    return None


async def _send_with_tries(call: StepCall, send: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    tries = 0
    while True:
        tries += 1
        try:
            return await send()
        except AllmaError as raised:
            error = step_error_from(raised)
            pause = _pause(call, error, tries)
            if pause is None:
                if error is raised:
                    raise
                raise error from raised
        await call.services.sleep(pause)


def _pause(call: StepCall, error: StepError, tries: int) -> float | None:
    """Return the seconds before the next try of the same call; None if there is none."""
    if not isinstance(error, TransientStepError) or tries >= CALL_TRIES:
        return None
    asked = error.retry_after or 0.0
    if asked > _LONGEST_PAUSE:
        return None
    own = call.services.settings.transient_wait_seconds * 2.0 ** (tries - 1)
    return min(max(own * (1 + 0.1 * call.services.jitter()), asked), _LONGEST_PAUSE)


def _failed(
    progress: PollProgress,
    cause: str,
    reason: str,
    output: dict[str, Any] | None = None,
    failure: StepError | None = None,
) -> PollingFailedError:
    details: dict[str, Any] = {"cause": cause, "calls": progress.calls}
    last = ""
    if output is not None:
        details |= {"status": output["status"], "data": _bounded(output["data"])}
        last = (
            f" Last response: {output['status']} from {output['_meta']['method']} {output['_meta']['url']}."
        )
    elif failure is not None:
        details["lastError"] = failure.message
        last = f" The last call failed: {failure.message}"
    calls = f"{progress.calls} call{'' if progress.calls == 1 else 's'}"
    return PollingFailedError(f"Polling failed after {calls}: {reason}.{last}", details=details)


def _bounded(data: Any) -> Any:
    """Return a response's body, or the beginning of its JSON if it is large."""
    encoded = msgspec.json.encode(data)
    if len(encoded) <= MAX_SHOWN_BYTES:
        return data
    return f"{encoded[:MAX_SHOWN_BYTES].decode(errors='ignore')}... ({len(encoded)} bytes)"
