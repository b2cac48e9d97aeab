"""WAIT_FOR_EXTERNAL_EVENT: the run waits for a message that names its key."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.suspension import SuspendReason, SuspendStep, Wait
from airflow_allma.exceptions import PermanentStepError, WaitTimeoutError
from airflow_allma.expressions import NOTHING, compile_config, compile_template
from airflow_allma.flow import WaitForExternalEventStep

__all__ = ["MAX_KEY", "WaitForEvent"]

MAX_KEY: Final = 1_000
"""Characters of a correlation key."""


class WaitForEvent(AsyncHandler):
    """Waits until a message names the step's key, and returns the message's payload.

    The answer to such a wait is ``{"payload": object}``, or ``{"conflict": true}`` if something else waits
    for the same key already.
    """

    reads_mappings: ClassVar[bool] = False
    bounds_itself = True
    suspends = True

    def __init__(self, step: WaitForExternalEventStep) -> None:
        self._step = step
        self._key = compile_template(step.correlation_key_template)
        self._message = compile_config(step.prompt_user_message_template)

    async def __call__(self, call: StepCall) -> Any:
        """Return the payload, or suspend the run until it has arrived.

        Raises:
            SuspendStep: it has not arrived, and there is time left.
            WaitTimeoutError: it did not arrive in time.
            PermanentStepError: the key is empty or too long, or another run waits for it.
        """
        services = call.services
        now = services.now()
        wait = Wait.from_dict(call.saved) if call.saved is not None else self._begin(call, now)
        answers = services.answers
        take = answers.take
        arguments = (SuspendReason.EVENT, wait.key)
        answer = await services.in_thread(take, *arguments) if answers.blocks else take(*arguments)
        if answer is not NOTHING:
            return self._payload(wait, answer)
        if now >= wait.until:
            seconds = self._step.max_wait_time_seconds
            raise WaitTimeoutError(
                f"Step {call.step_id}: no event for the key {_shown(wait.key)} arrived within {seconds} s "
                "(maxWaitTimeSeconds).",
                details={"correlationKey": wait.key, "maxWaitTimeSeconds": seconds},
            )
        raise SuspendStep((wait,), wait.to_dict())

    def _begin(self, call: StepCall, now: float) -> Wait:
        root = {**call.root(), **call.context}
        key = self._key.render(root, call.load)
        if not key.strip() or key.rstrip().endswith(":"):
            raise PermanentStepError(
                f"Step {call.step_id}: the correlation key is {_shown(key)}. Its template "
                f"{_shown(self._step.correlation_key_template)} must render to a key that is not empty and "
                "does not end with a colon: a value that it names is missing.",
                details={"correlationKey": key},
            )
        if len(key) > MAX_KEY:
            raise PermanentStepError(
                f"Step {call.step_id}: the correlation key has {len(key)} characters; at most {MAX_KEY} are "
                "allowed."
            )
        message = self._message.render(root, call.load)
        return Wait(
            SuspendReason.EVENT,
            key,
            until=now + self._step.max_wait_time_seconds,
            since=now,
            step_id=call.step_id,
            branch_id=call.info.branch_id,
            item_index=call.info.item_index,
            details={} if message in (None, NOTHING) else {"message": message},
        )

    def _payload(self, wait: Wait, answer: Any) -> Any:
        if "conflict" in answer:
            raise PermanentStepError(
                f"Step {wait.step_id}: something else waits for the key {_shown(wait.key)} already; "
                "`airflow-allma events list` shows it. Put something into correlationKeyTemplate that only "
                "this step of this run has, such as {{flowExecutionId}} and the item's id.",
                details={"correlationKey": wait.key},
            )
        return answer["payload"]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
