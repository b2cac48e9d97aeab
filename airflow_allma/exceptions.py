"""Every error that this package raises on purpose, in one tree.

```
AllmaError
├── FlowError                         a flow file is not a valid flow; lists every problem with its location
├── ExpressionError                   a JSONPath, a template or a condition fails
│   ├── ExpressionSyntaxError         it cannot be parsed; reported when the flow is loaded
│   └── ExpressionEvaluationError     it cannot be evaluated with this data
├── WorkLimitError                    a step does more work than [allma] max_step_work allows
├── NotifierError                     a notifier is not allowed or not installed, or refuses its arguments
├── StorageError                      an object in S3 or in a local store cannot be read or written
│   ├── ObjectNotFoundError           the bucket, the object or the version does not exist
│   ├── ObjectAccessDeniedError       the credentials lack a permission
│   ├── ObjectChangedError            the object is not the one that was planned (ETag or version differs)
│   ├── ObjectDecodeError             the bytes are not valid JSON, UTF-8 or gzip, as the reader expects
│   ├── StorageUnavailableError       throttling, 5xx or a lost connection; the same call may succeed later
│   └── StorageConfigurationError     a connection or the offload location is missing, or a key is not allowed
├── InspectionError                   a question about the items of a run cannot be answered as it was asked
│   └── ItemNotFoundError             the item, branch or fork does not exist
├── SecretError                       a connection or a Variable cannot be used
│   ├── SecretNotFoundError           it does not exist
│   └── SecretUnavailableError        what stores it does not answer; the same lookup may succeed later
└── StepError                         a step of a running flow failed; has the four fields that a flow can see
    ├── PermanentStepError            retries do not help
    ├── TransientStepError            may succeed later; retried inside the task, then by Airflow
    ├── SubFlowError                  a sub-flow failed; has the error of its step, which may not happen again
    ├── StepTimeoutError              one attempt exceeded its time limit
    ├── WaitTimeoutError              no event arrived in time; its errorName is WaitTimeout
    ├── PollingFailedError            polling ended without success; its errorName is PollingFailed
    ├── StepLostError                 its process was lost, and it may have had side effects
    ├── ContentBasedRetryableError    the step returned content that the flow does not accept
    └── ParallelBranchExecutionError  branches of a fork failed
```

This module imports nothing from the package, so that every layer can raise from this tree. A few subclasses
are next to the only code that handles them: in the command line, the S3 store and the Airflow operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

__all__ = [
    "AllmaError",
    "ContentBasedRetryableError",
    "ExpressionError",
    "ExpressionEvaluationError",
    "ExpressionSyntaxError",
    "FlowError",
    "InspectionError",
    "ItemNotFoundError",
    "NotifierError",
    "ObjectAccessDeniedError",
    "ObjectChangedError",
    "ObjectDecodeError",
    "ObjectNotFoundError",
    "ParallelBranchExecutionError",
    "PermanentStepError",
    "PollingFailedError",
    "SecretError",
    "SecretNotFoundError",
    "SecretUnavailableError",
    "StepError",
    "StepLostError",
    "StepTimeoutError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "SubFlowError",
    "TransientStepError",
    "WaitTimeoutError",
    "WorkLimitError",
]


_CONTEXT_LENGTH: Final = 60
"""Characters shown on each side of a syntax error."""

_MAX_LOCATION_LENGTH: Final = 120
"""Characters shown of the expression that exceeds a limit."""


class AllmaError(Exception):
    """Root of every error that this package raises on purpose."""


class FlowError(AllmaError):
    """A flow file is not a valid flow; the message lists every problem on a line of its own."""


class ExpressionError(AllmaError, ValueError):
    """A JSONPath, a template or a condition fails."""


class ExpressionSyntaxError(ExpressionError):
    """An expression cannot be parsed.

    Attributes:
        reason: what is wrong and how to fix it, in one sentence.
        expression: the whole expression.
        position: 0-based index of the offending character in ``expression``.
    """

    def __init__(self, reason: str, expression: str, position: int = 0) -> None:
        self.reason = reason
        self.expression = expression
        self.position = position
        line_start = expression.rfind("\n", 0, position) + 1
        line_end = expression.find("\n", position)
        line_end = line_end if line_end >= 0 else len(expression)
        # Templates of a thousand characters on one line are common: show only the part around the error.
        start = max(line_start, position - _CONTEXT_LENGTH)
        end = min(line_end, position + _CONTEXT_LENGTH)
        before, after = "..." if start > line_start else "", "..." if end < line_end else ""
        caret = " " * (len(before) + position - start)
        super().__init__(f"{reason}\n  {before}{expression[start:end]}{after}\n  {caret}^")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.expression, self.position)


class ExpressionEvaluationError(ExpressionError):
    """An expression is valid but cannot be evaluated with this data."""


class WorkLimitError(AllmaError):
    """A step does more work than ``[allma] max_step_work`` allows.

    It is not an ExpressionError: where an expression that cannot be evaluated only leaves a value unset, this
    fails the step.

    Attributes:
        max_work: the limit, in units of work.
        step: the step; None outside of steps.
        location: the expression or the module that exceeded it; None if it is not known yet.
    """

    def __init__(self, max_work: int, step: str | None = None, location: str | None = None) -> None:
        super().__init__(max_work, step, location)
        self.max_work = max_work
        self.step = step
        self.location = location

    def at(self, location: str) -> WorkLimitError:
        """Add where the limit was exceeded, unless a narrower location is known, and return the error."""
        if self.location is None:
            is_short = len(location) <= _MAX_LOCATION_LENGTH
            self.location = location if is_short else f"{location[:_MAX_LOCATION_LENGTH]}..."
        return self

    def __str__(self) -> str:
        subject = f"Step {self.step}" if self.step else "An evaluation"
        location = f" at {self.location}" if self.location else ""
        return (
            f"{subject} does more work than [allma] max_step_work = {self.max_work} allows{location}. Each "
            "value that it visits or makes, each turn of a loop and each ten characters of text count as "
            "one. Use a smaller part of the data, or run a fork over it, or raise the setting."
        )


class NotifierError(AllmaError):
    """A notifier that a flow names is not allowed or not installed, or refuses its arguments."""


class StorageError(AllmaError):
    """An object in S3 or in a local store cannot be read or written."""


class ObjectNotFoundError(StorageError):
    """The bucket, the object or the version does not exist."""


class ObjectAccessDeniedError(StorageError):
    """The credentials in use lack a permission."""


class ObjectChangedError(StorageError):
    """The object has changed since it was planned; the message names both ETags."""


class ObjectDecodeError(StorageError):
    """The bytes are not in the format that the reader expects."""


class StorageUnavailableError(StorageError):
    """The store did not respond, or asked to retry later."""


class StorageConfigurationError(StorageError):
    """A setting, a connection or a key is missing or not allowed."""


class InspectionError(AllmaError):
    """A question about the items of a run cannot be answered as it was asked; the message says why."""


class ItemNotFoundError(InspectionError):
    """The item, branch, fork or run does not exist."""


class SecretError(AllmaError):
    """A connection or a Variable cannot be used. The message contains no secrets."""


class SecretNotFoundError(SecretError):
    """The connection or the Variable does not exist; the message says where to create it."""


class SecretUnavailableError(SecretError):
    """What stores connections and Variables does not answer."""


class StepError(AllmaError):
    """A step of a running flow failed.

    Attributes:
        error_name: the name that ``onError.retries.errorEquals`` compares and that a flow sees.
        message: what happened, where, and how to fix it, in one sentence. Contains no secrets.
        details: a JSON object; the runner adds ``failedStepInstanceId``.
    """

    default_name: ClassVar[str] = "Error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, details: Mapping[str, Any] | None = None, error_name: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_name = error_name or self.default_name
        self.details: dict[str, Any] = dict(details or {})

    def as_dict(self) -> dict[str, Any]:
        """Return the error as a flow sees it: four keys with JSON values."""
        return {
            "errorName": self.error_name,
            "errorMessage": self.message,
            "errorDetails": self.details,
            "isRetryable": self.retryable,
        }


class PermanentStepError(StepError):
    """Retries do not help: wrong configuration, bad input, a 4xx response."""

    default_name = "PermanentStepError"


class TransientStepError(StepError):
    """The same attempt may succeed later.

    Attributes:
        retry_after: seconds that the server asked to wait, or None.
    """

    default_name = "TransientStepError"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        error_name: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, details=details, error_name=error_name)
        self.retry_after = retry_after


class SubFlowError(StepError):
    """A sub-flow failed with an error that may not happen again.

    Its step was retried already where that can help: unlike a TransientStepError, it is retried only if the
    flow says so. The name is that of the step's error.
    """

    retryable = True


class StepTimeoutError(StepError):
    """One attempt of a step exceeded its time limit and was abandoned.

    A retry may succeed, but not soon: unlike a TransientStepError, it is retried only if the flow says so.
    """

    default_name = "StepTimeoutError"
    retryable = True


class WaitTimeoutError(StepError):
    """The event that a step waits for did not arrive in time; a retry waits anew."""

    default_name = "WaitTimeout"
    retryable = True


class PollingFailedError(StepError):
    """The failure condition of polling is true, or all calls were made; a retry begins anew."""

    default_name = "PollingFailed"
    retryable = True


class StepLostError(StepError):
    """The process of a step was lost after it may have had side effects, so it is not repeated."""

    default_name = "StepLostError"


class ContentBasedRetryableError(StepError):
    """The step succeeded, but its content is not what the flow requires."""

    default_name = "ContentBasedRetryableError"
    retryable = True


class ParallelBranchExecutionError(StepError):
    """Branches of a fork failed; ``details`` holds the first errors and the counts."""

    default_name = "ParallelBranchExecutionError"
