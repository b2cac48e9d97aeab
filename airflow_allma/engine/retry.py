"""Calling a handler as often as errors that pass allow, the pauses around it, and the check of its output."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import may_retry
from airflow_allma.engine.pointers import MAX_FETCHES, PointerNotLoaded, fetch, resolving, too_many_pointers
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.services import Services
from airflow_allma.engine.step_execution import StepExecution
from airflow_allma.engine.steps.base import StepCall
from airflow_allma.exceptions import (
    ContentBasedRetryableError,
    StepError,
    StepTimeoutError,
    TransientStepError,
)
from airflow_allma.expressions import NOTHING, LoadPointer, copy_value
from airflow_allma.flow import ContentRetry, Retries

__all__ = ["call_handler", "call_with_tries", "pause", "validate"]


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
    run: StepExecution, work: Callable[[StepExecution], Awaitable[Any]], *, last_try: bool | None
) -> Any:
    """Do a step's work until it gives a valid output or an error that stays.

    Three kinds of new try, each with its own count: transient errors, always and inside the task; content
    errors, when ``retryOnContentError`` says so; and, when ``last_try`` is None, the step's own ``retries``.

    Returns:
        The output; ``run.tries`` says how often the work was done.
    """
    done = _Done()
    run.tries = 0
    while True:
        run.tries += 1
        try:
            return await _try_once(run, work)
        except Exception as raised:
            error = step_error_from(raised)
            wait = _wait(run, error, done, last_try=last_try)
            if wait is None:
                if error is raised:
                    raise
                raise error from raised
            run.services.log.info(
                "Step %s, try %d failed: %s; next try in %.1f s", run.step.id, run.tries, error, wait
            )
            await run.services.sleep(wait)


async def _try_once(run: StepExecution, work: Callable[[StepExecution], Awaitable[Any]]) -> Any:
    if not run.step.blocks:
        return await _bounded(run, work)
    # The time counts from here: steps that hang hold their turns, and others must not hang with them.
    async with run.services.threads.slots:
        return await _bounded(run, work)


async def _bounded(run: StepExecution, work: Callable[[StepExecution], Awaitable[Any]]) -> Any:
    """One try, given up when its time is over."""
    seconds = run.services.settings.step_timeout_seconds
    if not run.step.is_bounded or seconds <= 0:
        return await work(run)
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work(run)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StepTimeoutError(
            f"Step {run.step.id} was given up after {seconds:g} s. Find out what it waits for, or set "
            "[allma] step_timeout_seconds higher; 0 means no bound.",
            details={"timeoutSeconds": seconds},
        ) from error


@dataclass(slots=True)
class _Done:
    """New tries so far, of each kind."""

    transient: int = 0
    content: int = 0
    own: int = 0


def _wait(run: StepExecution, error: StepError, done: _Done, *, last_try: bool | None) -> float | None:
    """Seconds to wait before the next try; None when there is none."""
    settings = run.services.settings
    on_error = run.step.model.on_error
    if isinstance(error, TransientStepError) and done.transient + 1 < settings.transient_tries:
        wait: float = settings.transient_wait_seconds * 2.0**done.transient
        wait *= 1 + 0.1 * run.services.jitter()
        done.transient += 1
        return min(max(wait, error.retry_after or 0), settings.longest_wait_seconds)
    content = on_error.retry_on_content_error if on_error else None
    if isinstance(error, ContentBasedRetryableError) and content is not None and done.content < content.count:
        done.content += 1
        # At once, unless the flow names an interval itself.
        named = "interval_seconds" in content.model_fields_set
        return _growing(content, done.content) if named else 0.0
    own = on_error.retries if on_error else None
    if last_try is None and own is not None and done.own < own.count and may_retry(run.step, error):
        done.own += 1
        done.transient = done.content = 0
        return _growing(own, done.own)
    return None


def _growing(retry: Retries | ContentRetry, number: int) -> float:
    wait: float = retry.interval_seconds * retry.backoff_rate ** (number - 1)
    return wait


async def call_handler(run: StepExecution) -> Any:
    """Call the handler once, with what its expressions read, and check its output.

    Raises:
        ContentBasedRetryableError: the output lacks what ``outputValidation`` requires.
        Exception: whatever the handler raises.
    """
    step, services = run.step, run.services
    load = services.pointers.load
    for _ in range(MAX_FETCHES):
        try:
            # A try gets its own input: one that failed half-way may have changed it.
            call = StepCall(step.id, copy_value(run.step_input), run.state.context, run.info, services, load)
            output = step.handler(call)  # type: ignore[misc]  # only forks have none
            if inspect.isawaitable(output):
                output = await output
            break
        except PointerNotLoaded as need:
            # Handlers evaluate their expressions before they do anything outside.
            await fetch(need.pointer, services)
    else:
        raise too_many_pointers()
    if step.required:
        await resolving(services, validate, step, output, load)
    return output
