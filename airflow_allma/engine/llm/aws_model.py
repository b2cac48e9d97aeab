"""Calls to models through AWS: in a thread, with a time limit, and their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from airflow_allma.common.aws_calls import observed
from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.engine.llm.model_http import request_timeout
from airflow_allma.engine.llm.model_request import ModelRequest, RateLimitedError
from airflow_allma.engine.modules import ModuleContext
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["aws_module_errors", "run_bounded", "wrong_connection"]

_T = TypeVar("_T")

_THROTTLED: Final = frozenset({"ThrottlingException", "TooManyRequestsException"})
_MAY_PASS: Final = frozenset({"ModelErrorException", "ModelNotReadyException", "ModelTimeoutException"})
_NAMES: Final = {
    "AccessDeniedException": "ModelAuthenticationError",
    "ExpiredTokenException": "ModelAuthenticationError",
    "IncompleteSignatureException": "ModelAuthenticationError",
    "InvalidSignatureException": "ModelAuthenticationError",
    "MissingAuthenticationTokenException": "ModelAuthenticationError",
    "ResourceNotFoundException": "ModelNotFoundError",
    "UnrecognizedClientException": "ModelAuthenticationError",
}
# Bedrock has no code for it.
_UNKNOWN_MODEL: Final = "ValidationException: The provided model identifier is invalid"


async def run_bounded(
    call: StepCall, request: ModelRequest, aws: AwsClients | None, function: Callable[..., _T], *args: Any
) -> _T:
    """Run a blocking function in a thread, with a time limit; record its calls to AWS.

    Args:
        call: the step's call.
        request: the request; its ``timeoutMs`` is the time limit.
        aws: the AWS clients.
        function: the function; its last argument is a ``ModuleContext``.
        args: its other arguments.

    Raises:
        TransientStepError: it takes too long; its thread continues until AWS responds.
    """
    services = call.services
    context = ModuleContext(services.store, aws, services.settings, services.log, call.calls)
    seconds = request_timeout(request)
    try:
        async with asyncio.timeout(seconds):
            return await services.threads.run(observed, call.calls.add, function, *args, context)
    except StepError as error:
        services.secrets.mask_error(error)
        raise
    except TimeoutError as error:
        raise TransientStepError(
            f"No answer from model {request.model} within {seconds:g} seconds. Increase "
            "customConfig.timeoutMs if it needs more time.",
            details={"provider": request.model.provider.value, "model": request.model.model_id},
        ) from error


def wrong_connection(connection: str, provider: LlmProvider, alternative: str = "") -> PermanentStepError:
    """Return the error for a connection of a step whose model is called with the flow's AWS connection.

    Args:
        connection: its id.
        provider: the provider of the model.
        alternative: what else can be done: the end of a sentence.
    """
    return PermanentStepError(
        f"Connection {connection!r} cannot be used for {provider.value}, which takes the AWS connection of "
        "the flow: [allma] aws_conn_id, or airflow.awsConnId of the flow. Remove `connection` from the "
        f"step{alternative}.",
        details={"connection": connection},
    )


@contextmanager
def aws_module_errors(request: ModelRequest) -> Iterator[None]:
    """Turn the step errors of an AWS call into those of a model: throttling becomes RateLimitedError."""
    names = {"provider": request.model.provider.value, "model": request.model.model_id}
    try:
        yield
    except TransientStepError as error:
        code, status = error.details.get("awsErrorCode"), error.details.get("awsStatus")
        error.details |= names
        if code in _THROTTLED or (status == 429 and code not in _MAY_PASS):
            raise RateLimitedError(
                error.message, details=error.details, retry_after=error.retry_after
            ) from error.__cause__
        raise
    except PermanentStepError as error:
        error.details |= names
        code = str(error.details.get("awsErrorCode", ""))
        if code in _MAY_PASS:
            raise TransientStepError(error.message, details=error.details) from error.__cause__
        if _UNKNOWN_MODEL in error.message:
            error.error_name = "ModelNotFoundError"
        error.error_name = _NAMES.get(code, error.error_name)
        raise
