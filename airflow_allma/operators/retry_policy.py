"""``onError.retries`` as retries of Airflow's tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_allma.exceptions import StepError
from airflow_allma.flow import Retries

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["FlowRetryPolicy", "StepRetryError"]


class StepRetryError(StepError):
    """A step failed with an error that its ``onError.retries`` covers: Airflow retries the task."""

    retryable = True


class FlowRetryPolicy(RetryPolicy):
    """Delays a step's retries: ``intervalSeconds``, multiplied by ``backoffRate`` for each earlier retry.

    Airflow's own exponential backoff adds up to 100 % at random; the flow names exact seconds.

    Args:
        retries: the step's ``onError.retries``.
        longest: upper limit of a delay, in seconds.
    """

    def __init__(self, retries: Retries, longest: float = 3600) -> None:
        self._count = retries.count
        self._first = float(retries.interval_seconds)
        self._rate = float(retries.backoff_rate)
        self._longest = longest

    def delay(self, tries_before: int) -> timedelta:
        """Return the delay after a failed try.

        Args:
            tries_before: how many tries failed before that one.
        """
        return timedelta(seconds=min(self._first * self._rate**tries_before, self._longest))

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """Retry after the flow's delay; runs in the task's own process."""
        if not isinstance(exception, StepRetryError):
            return RetryDecision.default()
        # A cleared task continues counting its tries; max_tries then includes those before it was cleared.
        before_this_round = max_tries - self._count
        tries_before = max(0, try_number - 1 - before_this_round)
        return RetryDecision.retry(delay=self.delay(tries_before), reason=str(exception)[:400])

    def serialize(self) -> dict[str, Any]:
        """Return the arguments as JSON."""
        return {"count": self._count, "first": self._first, "rate": self._rate, "longest": self._longest}
