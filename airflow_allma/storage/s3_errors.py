"""What boto3 raises, in this package's terms.

botocore is imported with the first call: most tasks of a flow make none, and need not wait for it.
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
    """The range begins at or behind the object's end; never leaves the S3 store."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """Answers with one of these codes or statuses mean this."""

    kind: type[StorageError]
    advice: str
    codes: frozenset[str]
    statuses: Container[int] = ()


_RULES: Final = (
    _Rule(ObjectChangedError, "the object has changed.", frozenset({"PreconditionFailed"}), {412}),
    _Rule(RangeOutsideObjectError, "the range lies outside of it.", frozenset({"InvalidRange"}), {416}),
    _Rule(
        StorageUnavailableError,
        "the store is busy or out of order.",
        TRANSIENT_AWS_CODES,
        {429, *range(500, 600)},
    ),
    _Rule(ObjectNotFoundError, "the bucket does not exist.", frozenset({"NoSuchBucket"})),
    # A version that is a delete marker answers 405.
    _Rule(ObjectNotFoundError, "it does not exist.", frozenset({"MethodNotAllowed", "NoSuchVersion"}), {404}),
    _Rule(
        StorageConfigurationError,
        "the bucket lies in another region; name that in the pointer or the connection.",
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
_NO_VERSION: Final = _Rule(ObjectNotFoundError, "there is no such version.", frozenset(), {400})
_REFUSED: Final = _Rule(StorageConfigurationError, "the call was refused.", frozenset())


@cache
def _passing() -> tuple[type[Exception], ...]:
    """What may go well when it is tried again."""
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
        connection: what names the credentials, for the message.
        versioned: the call named a version: S3 says "invalid argument" for one that it does not know.
    """
    import botocore.exceptions as boto

    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, subject, connection, versioned=versioned) from error
    except _passing() as error:
        raise StorageUnavailableError(
            f"{subject}: no good answer through {connection}: {_reason(error)}. If this stays so, check the "
            "connection's endpoint and region."
        ) from error
    except boto.BotoCoreError as error:
        raise StorageConfigurationError(
            f"{subject}: the call cannot be made with {connection}: {_reason(error)}. Check the connection's "
            "credentials, region and endpoint."
        ) from error


def _of_answer(error: ClientError, subject: str, connection: str, *, versioned: bool) -> StorageError:
    answer: Any = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{code or status}: {answer.get('Error', {}).get('Message', '')}".rstrip(": ")
    rules = (*_RULES, _NO_VERSION) if versioned else _RULES
    rule = next((rule for rule in rules if code in rule.codes or status in rule.statuses), _REFUSED)
    return rule.kind(f"{subject}: {rule.advice} S3 said {said!r} through {connection}.")


def _reason(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
