"""Calling a step's handler: time limit, retries inside the task, and the check of its output."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import may_retry
from airflow_allma.engine.outside_calls import OutsideCalls
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.pointer_loading import MAX_FETCHES, evaluate, fetch, too_many_pointers
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.step_execution import StepExecution, without_meta
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.suspension import SuspendedStep, SuspendStep
from airflow_allma.exceptions import (
    ContentBasedRetryableError,
    StepError,
    StepTimeoutError,
    TransientStepError,
)
from airflow_allma.expressions import NOTHING, LoadPointer, copy_value
from airflow_allma.flow import ContentRetry, Retries

__all__ = ["AttemptCounts", "call_with_retries", "check_output", "next_delay", "suspend"]


def _validate_output(step: CompiledStep, output: Any, load: LoadPointer) -> None:
    """Check ``outputValidation.requiredFields``.

    Raises:
        ContentBasedRetryableError: a path finds nothing, or null.
    """
    for path in step.required:
        value = path.find(output, load)
        if value is NOTHING or value is None:
            raise ContentBasedRetryableError(
                f"Step {step.id}: the output has no value at {path.source}, which outputValidation requires.",
                details={"requiredField": path.source},
            )


def check_output(execution: StepExecution, output: Any, load: LoadPointer) -> None:
    """Validate the output of an execution, and note it for the trace if it is refused.

    Raises:
        ContentBasedRetryableError: the output lacks what ``outputValidation`` requires.
    """
    try:
        _validate_output(execution.step, output, load)
    except ContentBasedRetryableError:
        execution.refused_output = without_meta(output)
        raise


async def call_with_retries(execution: StepExecution, *, last_try: bool | None) -> Any:
    """Call the handler until it returns a valid output or an error that a retry does not cover.

    Three kinds of retries, each with its own count: transient errors, always; content errors, when
    ``retryOnContentError`` allows it; and, when ``last_try`` is None, the step's own ``retries``.

    Returns:
        The output; ``execution.tries`` is the number of calls.
    """
    counts = AttemptCounts()
    execution.tries = 0
    if execution.resumes is not None:
        execution.tries = execution.resumes.tries
        counts = AttemptCounts(execution.resumes.transient, execution.resumes.content, execution.resumes.own)
    execution.calls = OutsideCalls()
    attempt = _attempt_of(execution)
    while True:
        execution.tries += 1
        try:
            return await attempt(execution)
        except SuspendStep as suspension:
            suspend(execution, suspension, counts)
            raise
        except Exception as raised:
            error = execution.services.secrets.mask_error(step_error_from(raised))
            delay = next_delay(execution, error, counts, last_try=last_try)
            if delay is None:
                if error is raised:
                    raise
                raise error from raised
            execution.services.log.info(
                "%s (step %s, try %d; next try in %.1f s)", error, execution.step.id, execution.tries, delay
            )
            await execution.services.sleep(delay)


def _attempt_of(execution: StepExecution) -> Callable[[StepExecution], Awaitable[Any]]:
    """Return what makes one attempt of a step, with few layers: each takes time for every item of a fork."""
    step, seconds = execution.step, execution.services.settings.step_timeout_seconds
    if step.blocks_thread:
        return _try_in_slot
    if not step.is_bounded or seconds <= 0 or (step.max_seconds is not None and step.max_seconds < seconds):
        return _call_handler
    return _try_within_time_limit


async def _try_in_slot(execution: StepExecution) -> Any:
    # The time limit begins here: steps that hang keep their slots, and waiting for a slot is not hanging.
    async with execution.services.threads.slots:
        return await _try_within_time_limit(execution)


async def _try_within_time_limit(execution: StepExecution) -> Any:
    seconds = execution.services.settings.step_timeout_seconds
    if not execution.step.is_bounded or seconds <= 0:
        return await _call_handler(execution)
    try:
        async with asyncio.timeout(seconds) as limit:
            return await _call_handler(execution)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StepTimeoutError(
            f"Step {execution.step.id} timed out after {seconds:g} s. Find out what it waits for, or set "
            "[allma] step_timeout_seconds higher; 0 means no limit.",
            details={"timeoutSeconds": seconds},
        ) from error


async def _call_handler(execution: StepExecution) -> Any:
    """Build the input if it is not built yet, call the handler once, and check its output.

    Raises:
        ContentBasedRetryableError: the output lacks what ``outputValidation`` requires.
        Exception: whatever the handler raises.
    """
    step, services, info = execution.step, execution.services, execution.info
    load = services.pointers.load
    resumes, execution.resumes = execution.resumes, None
    execution.refused_output = None
    saved = resumes.saved if resumes is not None else None
    if execution.step_input is None:
        execution.step_input = {} if step.input_plan.is_empty else await _build_input(execution)
    for _ in range(MAX_FETCHES):
        try:
            # Each call gets an input of its own: one that failed halfway could have changed it.
            own_input = _own_input(step, execution.step_input)
            call = StepCall(
                step.id,
                own_input,
                execution.state.context,
                info,
                services,
                load,
                execution.calls,
                execution.state,
                execution.tries,
                saved,
            )
            output = step.handler(call)
            if not step.handler.inline:
                output = await output
            break
        except PointerNotLoaded as missing:
            # Handlers evaluate their expressions before they do anything outside.
            await fetch(missing.pointer, services)
    else:
        raise too_many_pointers()
    if step.required:
        await evaluate(services, check_output, execution, output, load)
    return output


def _own_input(step: CompiledStep, step_input: dict[str, Any]) -> dict[str, Any]:
    if not step_input:
        return {}
    return dict(step_input) if step.keeps_input else copy_value(step_input)


async def _build_input(execution: StepExecution) -> dict[str, Any]:
    services, state = execution.services, execution.state
    arguments = (
        state.context,
        execution.info,
        services.pointers.load,
        services.log,
        execution.step.id,
        state,
    )
    return await evaluate(services, execution.step.input_plan.build, *arguments)


@dataclass(slots=True)
class AttemptCounts:
    """Retries so far, by kind."""

    transient: int = 0
    content: int = 0
    own: int = 0


def suspend(execution: StepExecution, suspension: SuspendStep, counts: AttemptCounts) -> None:
    """Keep in the run's state what is needed to call the handler again."""
    execution.state.suspended = SuspendedStep(
        execution.step.id,
        suspension.saved,
        execution.step_input,
        execution.tries - 1,
        counts.transient,
        counts.content,
        counts.own,
        round(execution.began, 3),
    )


def next_delay(
    execution: StepExecution, error: StepError, counts: AttemptCounts, *, last_try: bool | None
) -> float | None:
    """Count the retry and return the seconds to wait before it; None after the last try."""
    settings = execution.services.settings
    on_error = execution.step.model.on_error
    if isinstance(error, TransientStepError) and counts.transient + 1 < settings.transient_tries:
        delay: float = settings.transient_wait_seconds * 2.0**counts.transient
        delay *= 1 + 0.1 * execution.services.jitter()
        counts.transient += 1
        return min(max(delay, error.retry_after or 0), settings.longest_wait_seconds)
    content = on_error.retry_on_content_error if on_error else None
    if (
        isinstance(error, ContentBasedRetryableError)
        and content is not None
        and counts.content < content.count
    ):
        counts.content += 1
        # No delay, unless the flow itself sets an interval.
        named = "interval_seconds" in content.model_fields_set
        return _backoff(content, counts.content) if named else 0.0
    own = on_error.retries if on_error else None
    if last_try is None and own is not None and counts.own < own.count and may_retry(execution.step, error):
        counts.own += 1
        counts.transient = counts.content = 0
        return _backoff(own, counts.own)
    return None


def _backoff(retry: Retries | ContentRetry, number: int) -> float:
    delay: float = retry.interval_seconds * retry.backoff_rate ** (number - 1)
    return delay
