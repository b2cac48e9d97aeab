"""Every error that this package raises, in one tree.

```
AllmaError
├── FlowError                         a flow file is not a valid flow (one or more located problems)
├── ExpressionError                   a JSONPath, template or condition
│   ├── ExpressionSyntaxError         it cannot be read (known when the flow is loaded)
│   └── ExpressionEvaluationError     it cannot be evaluated over this data
├── StorageError                      an object in S3 or in a local store
│   ├── ObjectNotFoundError           no such bucket, object or version
│   ├── ObjectAccessDeniedError       the credentials may not do this
│   ├── ObjectChangedError            the object is not the one that was planned (ETag or version)
│   ├── ObjectDecodeError             the bytes are not what the reader was promised (JSON, UTF-8, gzip)
│   ├── StorageUnavailableError       throttled, 5xx, connection lost: the same call may go through later
│   └── StorageConfigurationError     no connection, no offload location, a key that is not allowed
└── StepError                         a step of a running flow (has the four fields a flow can see)
    ├── PermanentStepError            trying again does not help
    ├── TransientStepError            may pass later: retried inside the task, then by Airflow
    ├── StepTimeoutError              no end after the longest time that a try may take
    ├── ContentBasedRetryableError    the answer's content is not what the flow requires
    └── ParallelBranchExecutionError  branches of a fork failed
```

Nothing here imports anything of this package: every layer may raise from this tree.
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
    "ObjectAccessDeniedError",
    "ObjectChangedError",
    "ObjectDecodeError",
    "ObjectNotFoundError",
    "ParallelBranchExecutionError",
    "PermanentStepError",
    "StepError",
    "StepTimeoutError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "TransientStepError",
]


_SHOWN: Final = 60


class AllmaError(Exception):
    """Root of every error that this package raises on purpose."""


class FlowError(AllmaError):
    """A flow file is not a valid flow; the message lists every problem, one a line."""


class ExpressionError(AllmaError, ValueError):
    """Something is wrong with a JSONPath, a template or a condition."""


class ExpressionSyntaxError(ExpressionError):
    """An expression cannot be read.

    Attributes:
        reason: what is wrong and how to mend it, one sentence.
        text: the whole expression.
        position: 0-based index of the offending character in ``text``.
    """

    def __init__(self, reason: str, text: str, position: int = 0) -> None:
        self.reason = reason
        self.text = text
        self.position = position
        line_start = text.rfind("\n", 0, position) + 1
        line_end = text.find("\n", position)
        line_end = line_end if line_end >= 0 else len(text)
        # Templates of a thousand characters on one line are common: show what is around the place.
        start = max(line_start, position - _SHOWN)
        end = min(line_end, position + _SHOWN)
        before, after = "..." if start > line_start else "", "..." if end < line_end else ""
        caret = " " * (len(before) + position - start)
        super().__init__(f"{reason}\n  {before}{text[start:end]}{after}\n  {caret}^")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.text, self.position)


class ExpressionEvaluationError(ExpressionError):
    """An expression is well formed but has no answer over this data."""


class StorageError(AllmaError):
    """An object in S3 or in a local store could not be read or written."""


class ObjectNotFoundError(StorageError):
    """The bucket, the object or the version does not exist."""


class ObjectAccessDeniedError(StorageError):
    """The credentials in use may not do this."""


class ObjectChangedError(StorageError):
    """The object is no longer the one that was planned; the message names both ETags."""


class ObjectDecodeError(StorageError):
    """The bytes are not what the reader was promised."""


class StorageUnavailableError(StorageError):
    """The store did not answer, or asked to come back later."""


class StorageConfigurationError(StorageError):
    """A setting, a connection or a key is missing or not allowed."""


class StepError(AllmaError):
    """A step of a running flow failed.

    Attributes:
        error_name: the name that ``onError.retries.errorEquals`` compares and that a flow sees.
        message: one sentence: what happened, where, how to mend it. Carries no secrets.
        details: JSON object; the runner adds ``failedStepInstanceId``.
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
        """The error as a flow sees it: four keys, JSON values."""
        return {
            "errorName": self.error_name,
            "errorMessage": self.message,
            "errorDetails": self.details,
            "isRetryable": self.retryable,
        }


class PermanentStepError(StepError):
    """Trying again does not help: configuration, bad input, an answer of 4xx."""

    default_name = "PermanentStepError"


class TransientStepError(StepError):
    """May pass later.

    Attributes:
        retry_after: seconds that the other side asked us to wait, or None.
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


class StepTimeoutError(StepError):
    """One try of a step took too long and was given up.

    It may pass, but not soon: unlike a TransientStepError it is tried again only where the flow says so.
    """

    default_name = "StepTimeoutError"
    retryable = True


class ContentBasedRetryableError(StepError):
    """The step answered, but not with the content that the flow requires."""

    default_name = "ContentBasedRetryableError"
    retryable = True


class ParallelBranchExecutionError(StepError):
    """Branches of a fork failed; ``details`` holds the first errors and the counts."""

    default_name = "ParallelBranchExecutionError"
