"""Calling a handler as often as errors that pass allow, the pauses around it, and the check of its output."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from typing import Any

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import may_retry
from airflow_allma.engine.pointers import PointerNotLoaded, fetch, resolving
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo
from airflow_allma.engine.steps.base import StepCall
from airflow_allma.exceptions import ContentBasedRetryableError, TransientStepError
from airflow_allma.expressions import NOTHING, LoadPointer, copy_value

__all__ = ["call_with_tries", "pause", "validate"]


async def pause(step: CompiledStep, position: str, services: Services) -> None:
    """The step's ``delay``, if it lies on this side of the work."""
    delay = step.model.delay
    if delay is None or delay.position != position:
        return
    if delay.milliseconds is not None:
        await services.sleep(delay.milliseconds / 1000)
    elif delay.delay_from is not None and delay.delay_to is not None:
        await services.sleep(random.randint(delay.delay_from, delay.delay_to) / 1000)  # noqa: S311 - no secret


def validate(step: CompiledStep, output: Any, load: LoadPointer) -> None:
    """Check ``outputValidation.requiredFields``.

    Raises:
        ContentBasedRetryableError: a path finds nothing, or null.
    """
    for path in step.required:
        found = path.find(output, load)
        if found is NOTHING or found is None:
            raise ContentBasedRetryableError(
                f"Step {step.id}: the output has no value at {path.text}, which outputValidation requires.",
                details={"requiredField": path.text},
            )


async def call_with_tries(
    step: CompiledStep,
    step_input: dict[str, Any],
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
    last_try: bool | None,
) -> tuple[Any, int]:
    """Call the handler until it gives a valid output or an error that stays.

    Three kinds of new try, each with its own count: transient errors, always and inside the task; content errors,
    when ``retryOnContentError`` says so; and, when ``last_try`` is None, the step's own ``retries``.

    Returns:
        The output, and how often the handler ran.
    """
    settings = services.settings
    transient = content = own = tries = 0
    while True:
        tries += 1
        try:
            output = await _call(step, step_input, context, info, services)
        except Exception as raised:
            error = step_error_from(raised)
            error.tries = tries  # type: ignore[attr-defined]  # for the record of the step
            if isinstance(error, TransientStepError) and transient + 1 < settings.transient_tries:
                wait = settings.transient_wait_seconds * 2**transient * (1 + 0.1 * services.jitter())
                wait = min(max(wait, error.retry_after or 0), settings.longest_wait_seconds)
                transient += 1
            elif isinstance(error, ContentBasedRetryableError) and content < _content_tries(step):
                wait = _content_wait(step, content)
                content += 1
            elif last_try is None and may_retry(step, error) and own < step.model.on_error.retries.count:  # type: ignore[union-attr]
                retries = step.model.on_error.retries  # type: ignore[union-attr]
                wait = retries.interval_seconds * retries.backoff_rate**own  # type: ignore[union-attr]
                own += 1
                transient = content = 0
            else:
                if error is raised:
                    raise
                raise error from raised
            services.log.info("Step %s, try %d failed: %s; next try in %.1f s", step.id, tries, error, wait)
            await services.sleep(wait)
        else:
            return output, tries


async def _call(
    step: CompiledStep,
    step_input: dict[str, Any],
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> Any:
    load = services.pointers.load
    while True:
        try:
            # A try gets its own input: one that failed half-way may have changed it.
            call = StepCall(step.id, copy_value(step_input), context, info, services, load)
            output = step.handler(call)  # type: ignore[misc]  # only forks have none
            if inspect.isawaitable(output):
                output = await output
            break
        except PointerNotLoaded as need:
            # Handlers evaluate their expressions before they do anything outside.
            await fetch(need.pointer, services)
    if step.required:
        await resolving(services, validate, step, output, load)
    return output


def _content_tries(step: CompiledStep) -> int:
    on_error = step.model.on_error
    return on_error.retry_on_content_error.count if on_error and on_error.retry_on_content_error else 0


def _content_wait(step: CompiledStep, done: int) -> float:
    """At once, unless the flow names an interval itself."""
    retry = step.model.on_error.retry_on_content_error  # type: ignore[union-attr]
    if retry is None or "interval_seconds" not in retry.model_fields_set:
        return 0.0
    return retry.interval_seconds * retry.backoff_rate**done
