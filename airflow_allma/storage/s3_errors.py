"""boto3's errors as this package's errors.

botocore is imported with the first call: most tasks of a flow make none, and need not wait for the import.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.aws_errors import TRANSIENT_AWS_CODES
from airflow_allma.exceptions import (
    ObjectAccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["RangeOutsideObjectError", "translated"]


class RangeOutsideObjectError(StorageError):
    """The range begins at or after the object's end; never leaves the S3 store."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """The error class for answers with one of these codes or statuses."""

    kind: type[StorageError]
    advice: str
    codes: frozenset[str]
    statuses: Container[int] = ()


_RULES: Final = (
    _Rule(ObjectChangedError, "the object has changed.", frozenset({"PreconditionFailed"}), {412}),
    _Rule(RangeOutsideObjectError, "the range is outside of it.", frozenset({"InvalidRange"}), {416}),
    _Rule(
        StorageUnavailableError,
        "the store is overloaded or unavailable.",
        TRANSIENT_AWS_CODES,
        {429, *range(500, 600)},
    ),
    _Rule(ObjectNotFoundError, "the bucket does not exist.", frozenset({"NoSuchBucket"})),
    # A version that is a delete marker answers 405.
    _Rule(ObjectNotFoundError, "it does not exist.", frozenset({"MethodNotAllowed", "NoSuchVersion"}), {404}),
    _Rule(
        StorageConfigurationError,
        "the bucket is in another region; set that in the pointer or the connection.",
        frozenset(
            {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
        ),
        {301, 307},
    ),
    _Rule(
        ObjectAccessDeniedError,
        "access is denied; check the credentials and their permissions.",
        frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}),
        {401, 403},
    ),
)
_NO_VERSION: Final = _Rule(ObjectNotFoundError, "the version does not exist.", frozenset(), {400})
_REJECTED: Final = _Rule(StorageConfigurationError, "the call was rejected.", frozenset())


@cache
def _transient() -> tuple[type[Exception], ...]:
    """Return the errors after which a retry can succeed."""
    import botocore.exceptions as boto
    import urllib3.exceptions

    return (
        boto.ChecksumError,
        boto.ConnectionError,
        boto.FlexibleChecksumError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        boto.ResponseStreamingError,
        urllib3.exceptions.HTTPError,
        OSError,
    )


@contextmanager
def translated(subject: str, connection: str, *, versioned: bool = False) -> Iterator[None]:
    """Raise this package's errors instead of boto3's.

    Args:
        subject: the object or bucket, for the message.
        connection: the name of the credentials, for the message.
        versioned: the call names a version: S3 answers "invalid argument" for an unknown one.
    """
    import botocore.exceptions as boto

    try:
        yield
    except boto.ClientError as error:
        raise _of_response(error, subject, connection, versioned=versioned) from error
    except _transient() as error:
        raise StorageUnavailableError(
            f"{subject}: the request through {connection} failed: {_reason(error)}. If this persists, check "
            "the connection's endpoint and region."
        ) from error
    except boto.BotoCoreError as error:
        raise StorageConfigurationError(
            f"{subject}: the call cannot be made with {connection}: {_reason(error)}. Check the connection's "
            "credentials, region and endpoint."
        ) from error


def _of_response(error: ClientError, subject: str, connection: str, *, versioned: bool) -> StorageError:
    response: Any = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{code or status}: {response.get('Error', {}).get('Message', '')}".rstrip(": ")
    rules = (*_RULES, _NO_VERSION) if versioned else _RULES
    rule = next((rule for rule in rules if code in rule.codes or status in rule.statuses), _REJECTED)
    return rule.kind(f"{subject}: {rule.advice} S3 answered {message!r} through {connection}.")


def _reason(error: BaseException) -> str:
    message = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
