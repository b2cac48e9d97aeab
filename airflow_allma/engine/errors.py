"""Every other error, as the error of a step: the one place that decides what may pass later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.aws_errors import is_transient
from airflow_allma.exceptions import (
    AllmaError,
    PermanentStepError,
    StepError,
    StorageUnavailableError,
    TransientStepError,
)

__all__ = ["step_error_from"]

_ADVICE: Final[Mapping[str, str]] = {
    "AccessDenied": "Give the credentials the permission that the message names.",
    "AccessDeniedException": "Give the credentials the permission that the message names.",
    "ExpiredToken": "Renew the credentials.",
    "ExpiredTokenException": "Renew the credentials.",
    "InvalidClientTokenId": "Check the credentials.",
    "ResourceNotFoundException": "Check the name, and the region and account of the credentials.",
    "UnrecognizedClientException": "Check the credentials and the region.",
    "ValidationException": "Check the expressions, and the names and values that they use.",
}


def step_error_from(
    error: BaseException,
    *,
    doing: str | None = None,
    connection: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> StepError:
    """The step error that another error stands for; raise it ``from`` that error.

    Args:
        error: a step error is given back as it is; a store that did not answer, throttling, lost connections
            and 5xx become a TransientStepError; everything else a PermanentStepError.
        doing: what was being done, in front of the message: ``DynamoDB query of table 'users'``. Storage
            errors name their object themselves.
        connection: what names the AWS credentials, behind the message. Storage errors name it themselves.
        details: JSON object for ``errorDetails``; must hold no secrets.
    """
    if isinstance(error, StepError):
        return error
    if isinstance(error, AllmaError):
        kind = TransientStepError if isinstance(error, StorageUnavailableError) else PermanentStepError
        return kind(_sentence(doing, str(error), None), details=details)
    return _of_aws(error, doing, connection, details) or PermanentStepError(
        _sentence(doing, f"{type(error).__name__}: {error}", None), details=details
    )


def _of_aws(
    error: BaseException, doing: str | None, connection: str | None, details: Mapping[str, Any] | None
) -> StepError | None:
    # An error of botocore exists only once botocore is imported; without AWS nobody pays for that.
    import botocore.exceptions as boto

    if isinstance(error, boto.ClientError):
        return _of_answer(error.response, doing, connection, details)
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError):
        return TransientStepError(
            _sentence(
                doing, f"no good answer: {error}. Check endpoint and region if this stays so.", connection
            ),
            details=details,
        )
    if isinstance(error, boto.BotoCoreError):
        advice = "Check the step's values, and the credentials and region."
        return PermanentStepError(_sentence(doing, f"{error}. {advice}", connection), details=details)
    return None


def _of_answer(
    response: Mapping[str, Any],
    doing: str | None,
    connection: str | None,
    details: Mapping[str, Any] | None,
) -> StepError:
    said = response.get("Error", {})
    code = str(said.get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    passing = is_transient(code, status)
    text = f"{code or status}: {said.get('Message', '')}".rstrip(": .") + "."
    advice = _ADVICE.get(code)
    kind = TransientStepError if passing else PermanentStepError
    return kind(
        _sentence(doing, f"{text} {advice}" if advice else text, connection),
        details={**(details or {}), "awsErrorCode": code, "awsStatus": status},
    )


def _sentence(doing: str | None, text: str, connection: str | None) -> str:
    through = f" (through {connection})" if connection else ""
    return f"{doing} failed: {text}{through}" if doing else f"{text}{through}"
