"""The errors of AWS that are worth a retry."""

from __future__ import annotations

from typing import Final

__all__ = ["TRANSIENT_AWS_CODES", "is_transient"]

TRANSIENT_AWS_CODES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OperationAborted",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttled",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""AWS error codes of transient errors."""


def is_transient(code: str, status: int) -> bool:
    """Return whether an AWS error is worth a retry, by its code or by its HTTP status (429 or 5xx)."""
    return code in TRANSIENT_AWS_CODES or status == 429 or 500 <= status < 600
