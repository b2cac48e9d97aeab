"""Retries of Airflow's tasks: those of ``onError.retries``, and those of lost tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_allma.compat import is_unanswered
from airflow_allma.exceptions import StepError
from airflow_allma.flow import Retries

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["LOST_TASK_DELAYS", "LOST_TASK_WAIT", "FlowRetryPolicy", "StepRetryError"]

LOST_TASK_WAIT: Final = 5.0
"""Seconds until a task that reached no API server runs again; it has already waited for one."""

LOST_TASK_DELAYS: Final = {
    "retry_delay": timedelta(seconds=LOST_TASK_WAIT),
    "retry_exponential_backoff": 4.0,
    "max_retry_delay": timedelta(seconds=60),
}
"""Arguments of tasks: 5 to 10 seconds until a lost one runs again, then 20 to 40, then 60.

While the API server is down, tasks cannot even begin, and each try takes about 15 seconds: three tries in a
row would all be lost.
"""


class StepRetryError(StepError):
    """A step failed with an error that its ``onError.retries`` covers: Airflow retries the task.

    Args:
        message: the step's error.
        failures: how often the step had failed by itself before.
    """

    retryable = True

    def __init__(self, message: str, *, failures: int = 0) -> None:
        super().__init__(message)
        self.failures = failures


class FlowRetryPolicy(RetryPolicy):
    """Decides about the retries of a step's task.

    A step's own failure has the delay of its ``onError.retries``: ``intervalSeconds``, multiplied by
    ``backoffRate`` for each earlier one. (Airflow's own exponential backoff adds up to 100 % at random; the
    flow names exact seconds.) A task that could not reach the API server is retried like one whose process
    was lost. Anything else, such as ``executionTimeoutSeconds``, is retried as often as the step's own
    failures, after their first delay, or as ``[core] default_task_retries`` says. Tasks whose process is lost
    have ``LOST_TASK_DELAYS``: Airflow asks no policy about them.

    Args:
        retries: the step's ``onError.retries``; None if it has none.
        lost: how many of the task's retries are for lost tries only.
        longest: upper limit of a delay, in seconds.
    """

    def __init__(self, retries: Retries | None, lost: int = 0, longest: float = 3600) -> None:
        self._count = retries.count if retries else 0
        self._first = float(retries.interval_seconds) if retries else LOST_TASK_WAIT
        self._rate = float(retries.backoff_rate) if retries else 1.0
        self._lost = lost
        self._longest = longest

    def delay(self, failures: int) -> timedelta:
        """Return the delay after the step's own failure.

        Args:
            failures: how often it had failed before that one.
        """
        return timedelta(seconds=min(self._first * self._rate**failures, self._longest))

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """Decide after a failed try; runs in the task's own process."""
        if isinstance(exception, StepRetryError):
            return RetryDecision.retry(delay=self.delay(exception.failures), reason=str(exception)[:400])
        if is_unanswered(exception):
            return RetryDecision.retry(
                delay=timedelta(seconds=LOST_TASK_WAIT), reason="Airflow's API server did not answer"
            )
        if try_number > max_tries - self._lost:
            return RetryDecision.fail(reason="the retries that are left are for lost tries")
        return RetryDecision.retry(delay=self.delay(0)) if self._count else RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the arguments as JSON."""
        return {
            "count": self._count,
            "first": self._first,
            "rate": self._rate,
            "lost": self._lost,
            "longest": self._longest,
        }
