"""Ask the models of a step in order until one gives a usable answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.llm.answer_cache import find_answer, keep_answer, request_digest
from airflow_allma.engine.llm.candidates import Candidate
from airflow_allma.engine.llm.clients import CLIENTS
from airflow_allma.engine.llm.media import check_media
from airflow_allma.engine.llm.model_client import ModelClient
from airflow_allma.engine.llm.model_connections import check_destination
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    Media,
    ModelRequest,
    ModelResponse,
    RateLimitedError,
)
from airflow_allma.engine.llm.rate_limiter import RateLimiter
from airflow_allma.engine.llm.security import SECURITY_VIOLATION
from airflow_allma.engine.outside_calls import ModelCall
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["Answer", "MakeOutput", "ask_models"]

_TRIES_BEFORE_FALLBACK: Final = 3
_MAX_RATE_LIMITED: Final = 100
_TIMES_WORTH_A_WARNING: Final = 5
_PAUSE_WORTH_A_WARNING: Final = 10.0
_LONGEST_PAUSE: Final = 300.0
"""Seconds; a call whose provider asks to wait longer fails, and the step can be rerun later."""

_CHARACTERS_OF_TOKEN: Final = 4
_TOKENS_OF_FILE: Final = 1_000
_FIRST_ANSWER_TOKENS: Final = 100

# Errors of the key, the model or the account: all calls to the model fail, not only those of one item.
_WRONG_SETUP: Final = frozenset({"InsufficientQuotaError", "ModelAuthenticationError", "ModelNotFoundError"})

MakeOutput = Callable[[Candidate, ModelResponse], Awaitable[dict[str, Any]]]
"""Returns the step's output for an answer; raises StepError if the flow cannot use the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that a step uses.

    Attributes:
        candidate: the model that answered.
        response: the answer itself.
        output: the step's output for it, without ``_meta``.
        is_cached: whether it is from the cache.
    """

    candidate: Candidate
    response: ModelResponse
    output: dict[str, Any]
    is_cached: bool


async def ask_models(
    candidates: Sequence[Candidate],
    prompt: str,
    media: tuple[Media, ...],
    call: StepCall,
    make_output: MakeOutput,
) -> Answer:
    """Return the first usable answer.

    Models whose circuit is open are skipped, unless all are open. After transient errors, a model is asked up
    to three times before the next one. The last model is asked once, as the engine retries the step.

    Raises:
        StepError: the error of the last model.
    """
    breaker = call.services.models.breaker
    usable = [one for one in candidates if not breaker.is_open(one.model)] or list(candidates)
    for skipped in candidates:
        if skipped not in usable:
            call.log.info(
                "Model %s is skipped for another %.0f s, as it kept failing (step %s)",
                skipped.model,
                breaker.seconds_left(skipped.model),
                call.step_id,
            )
    for candidate in usable[:-1]:
        try:
            return await _ask_before_fallback(candidate, prompt, media, call, make_output)
        except StepError as error:
            if error.error_name == SECURITY_VIOLATION:
                raise
            shown = call.services.secrets.mask_error(error)
            call.log.warning(
                "%s (model %s, step %s; the next one is tried)", shown, candidate.model, call.step_id
            )
    return await _ask(usable[-1], prompt, media, call, make_output)


async def _ask_before_fallback(
    candidate: Candidate, prompt: str, media: tuple[Media, ...], call: StepCall, make_output: MakeOutput
) -> Answer:
    """Ask one model, and again after transient errors, as long as its circuit is closed."""
    services = call.services
    for tries in range(1, _TRIES_BEFORE_FALLBACK):
        try:
            return await _ask(candidate, prompt, media, call, make_output)
        except TransientStepError as error:
            if services.models.breaker.is_open(candidate.model):
                raise
            delay = services.settings.transient_wait_seconds * 2.0 ** (tries - 1)
            delay *= 1 + services.jitter()
            call.log.info("%s (model %s; next try in %.1f s)", error, candidate.model, delay)
            await services.sleep(delay)
    return await _ask(candidate, prompt, media, call, make_output)


async def _ask(
    candidate: Candidate, prompt: str, media: tuple[Media, ...], call: StepCall, make_output: MakeOutput
) -> Answer:
    """Ask one model once, or take the answer that is kept of an earlier call."""
    models, model, started = call.services.models, candidate.model, perf_counter()
    request = candidate.request(prompt, media)
    connection = candidate.connection or models.connection_of(model.provider)
    aws = call.services.aws
    # Functions and models of the same name in two accounts are not the same.
    account = connection if connection is not None or aws is None else aws.connection
    digest = request_digest(request, account) if models.llm_cache else None
    # A second try is made because the first answer could not be used.
    if digest is not None and call.tries == 1 and (kept := await find_answer(digest, call)) is not None:
        models.account.count_cached(str(model))
        call.calls.add(ModelCall(str(model), 0, 0, True, (perf_counter() - started) * 1000))
        return Answer(candidate, kept, await make_output(candidate, kept), is_cached=True)
    check_media(media, model.provider)
    _client(request, call).check(request)
    if candidate.is_computed and candidate.connection is not None:
        await check_destination(call, candidate.connection, model.provider)
    response = await _send(request, call, connection)
    models.account.count(str(model), response.usage, models.price(model))
    milliseconds, usage = (perf_counter() - started) * 1000, response.usage
    call.calls.add(ModelCall(str(model), usage.input_tokens, usage.output_tokens, False, milliseconds))
    if response.finish is FinishReason.REFUSED:
        raise _refusal(candidate, response)
    output = await make_output(candidate, response)
    if digest is not None and response.finish is not FinishReason.LENGTH:
        await keep_answer(digest, response, call)
    return Answer(candidate, response, output, is_cached=False)


async def _send(request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
    """Send a request when the rate limit of its model allows it; after a 429, send it again."""
    models, model = call.services.models, request.model
    limiter = models.limiters.get(model, connection)
    tokens = len(request.prompt) // _CHARACTERS_OF_TOKEN + _FIRST_ANSWER_TOKENS
    tokens += _TOKENS_OF_FILE * len(request.media)
    rate_limited = 0
    while True:
        sent_at = await limiter.wait(tokens)
        try:
            response = await _client(request, call).send(request, call, connection)
        except RateLimitedError as error:
            limiter.rate_limited(error, sent_at)
            rate_limited += 1
            if rate_limited >= _MAX_RATE_LIMITED or (error.retry_after or 0) > _LONGEST_PAUSE:
                raise _rate_limit_exceeded(error, rate_limited) from error
            _warn_of_rate_limit(limiter, error, rate_limited, request, call)
        except BaseException as error:
            limiter.failed()
            _note_failure(request, call, error)
            raise
        else:
            limiter.accepted(response, tokens)
            models.breaker.succeeded(model)
            return response


def _warn_of_rate_limit(
    limiter: RateLimiter, error: RateLimitedError, times: int, request: ModelRequest, call: StepCall
) -> None:
    """Log why a call does not end, once a minute for each model. A few 429 responses are normal."""
    pause = error.retry_after or 0.0
    if (times >= _TIMES_WORTH_A_WARNING or pause >= _PAUSE_WORTH_A_WARNING) and limiter.may_warn():
        asks = f", and the provider asks to wait {pause:.0f} s" if pause >= 1 else ""
        call.log.warning(
            "Rate limited: a call got 429 %d times%s; it is sent again, up to %d times (model %s, step %s)",
            times,
            asks,
            _MAX_RATE_LIMITED,
            request.model,
            call.step_id,
        )


def _rate_limit_exceeded(error: RateLimitedError, times: int) -> PermanentStepError:
    """Return the error of a call that is not sent again: hours of waiting would look like a hanging task."""
    reasons = [f"{times} times"] if times > 1 else []
    if error.retry_after:
        reasons.append(f"it asks to wait {error.retry_after:.10g} s")
    reason = ", ".join(reasons)
    return PermanentStepError(
        f"{error.message} (rate limited, {reason}). Rerun the failed items later, or ask the provider for a "
        "higher limit.",
        error_name="RateLimitExceededError",
        details=error.details,
    )


def _client(request: ModelRequest, call: StepCall) -> ModelClient:
    clients: Mapping[LlmProvider, ModelClient] = call.services.models.clients or CLIENTS
    return clients[request.model.provider]


def _note_failure(request: ModelRequest, call: StepCall, error: BaseException) -> None:
    if not isinstance(error, Exception):
        return
    failure = step_error_from(error)
    is_of_model = isinstance(failure, TransientStepError) or failure.error_name in _WRONG_SETUP
    if is_of_model and call.services.models.breaker.failed(request.model):
        call.log.warning(
            "Model %s keeps failing and is skipped for 5 minutes in steps with another model (step %s)",
            request.model,
            call.step_id,
        )


def _refusal(candidate: Candidate, response: ModelResponse) -> PermanentStepError:
    words = response.refusal.strip()
    reason = f": {words}" if words else ""
    end = "" if words.endswith((".", "!", "?")) else "."
    details: Mapping[str, Any] = {"model": str(candidate.model), "refusal": response.refusal}
    return PermanentStepError(
        f"Model {candidate.model} refused to answer{reason}{end} Change the prompt or the data in it, or the "
        "safety settings of the provider.",
        error_name="ModelRefusalError",
        details=details,
    )
