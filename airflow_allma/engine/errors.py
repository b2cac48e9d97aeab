"""The conversion of other errors into step errors: the one place that decides which are transient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.aws_errors import is_transient
from airflow_allma.exceptions import (
    AllmaError,
    PermanentStepError,
    SecretUnavailableError,
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


_TRANSIENT: Final = (SecretUnavailableError, StorageUnavailableError)
_EXHAUSTED: Final[Mapping[type[BaseException], str]] = {
    MemoryError: "The process has no memory left for this step (MemoryError). Use less data in one step, or "
    "give the process more memory.",
    RecursionError: "A value is nested too deeply for this step (RecursionError). Use a part of it, or "
    "flatten it first.",
}


def step_error_from(
    error: BaseException,
    *,
    doing: str | None = None,
    connection: str | None = None,
    details: Mapping[str, Any] | None = None,
    advice: Mapping[str, str] | None = None,
) -> StepError:
    """Return another error as a step error; raise it ``from`` that error.

    Args:
        error: a step error is returned unchanged; an unavailable store or source of secrets, throttling, lost
            connections and 5xx become a TransientStepError; everything else becomes a PermanentStepError.
        doing: the operation, which begins the message: ``DynamoDB query of table 'users'``. Storage errors
            name their object themselves.
        connection: the name of the AWS credentials, which ends the message. Storage errors contain it.
        details: JSON object for ``errorDetails``; must not contain secrets.
        advice: name of an AWS error -> what to do about it, in place of the general advice.

    A PermanentStepError of AWS has the name of AWS's error (``ConditionalCheckFailedException``).
    """
    if isinstance(error, StepError):
        return error
    if isinstance(error, AllmaError):
        kind = TransientStepError if isinstance(error, _TRANSIENT) else PermanentStepError
        return kind(_sentence(doing, str(error), None), details=details)
    for kind_of_error, message in _EXHAUSTED.items():
        if isinstance(error, kind_of_error):
            return PermanentStepError(_sentence(doing, message, None), details=details)
    return _of_aws(error, doing, connection, details, advice) or PermanentStepError(
        _sentence(doing, f"{type(error).__name__}: {error}", None), details=details
    )


def _of_aws(
    error: BaseException,
    doing: str | None,
    connection: str | None,
    details: Mapping[str, Any] | None,
    advice: Mapping[str, str] | None,
) -> StepError | None:
    # Importing botocore takes a tenth of a second, so it is imported only after a failure.
    import botocore.exceptions as boto

    if isinstance(error, boto.ClientError):
        # boto3 makes a class of each error that the service declares; an undeclared one has only a code.
        declared = type(error).__name__ if type(error) is not boto.ClientError else None
        return _of_response(error.response, declared, doing, connection, details=details, advice=advice)
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        return TransientStepError(
            _sentence(doing, f"{error}. If this persists, check endpoint and region.", connection),
            details=details,
        )
    if isinstance(error, boto.BotoCoreError):
        message = f"{error}. Check the step's values, and the credentials and region."
        return PermanentStepError(_sentence(doing, message, connection), details=details)
    return None


def _of_response(
    response: Mapping[str, Any],
    declared: str | None,
    doing: str | None,
    connection: str | None,
    *,
    details: Mapping[str, Any] | None,
    advice: Mapping[str, str] | None,
) -> StepError:
    error = response.get("Error", {})
    code = str(error.get("Code", ""))
    name = declared or code
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{code or status}: {error.get('Message', '')}".rstrip(": .") + "."
    own_advice = (advice or {}).get(name) or _ADVICE.get(code)
    sentence = _sentence(doing, f"{message} {own_advice}" if own_advice else message, connection)
    all_details = {**(details or {}), "awsErrorCode": code, "awsStatus": status}
    if is_transient(code, status):
        return TransientStepError(sentence, details=all_details)
    return PermanentStepError(sentence, details=all_details, error_name=name or None)


def _sentence(doing: str | None, message: str, connection: str | None) -> str:
    through = f" (through {connection})" if connection else ""
    return f"{doing} failed: {message}{through}" if doing else f"{message}{through}"
