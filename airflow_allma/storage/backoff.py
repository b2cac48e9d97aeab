"""Retries when a store is unavailable: bounded, with exponential back-off and jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from airflow_allma.exceptions import StorageUnavailableError

__all__ = ["Backoff"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how fast to retry.

    Attributes:
        attempts: the total number, the first one included.
        first_seconds: the longest pause before the second attempt; each later one is twice as long.
        max_seconds: no pause is longer.
        sleep: waits for seconds; tests pass their own.
        jitter: returns a number from 0 to 1; a pause is between half and all of its length, so that many
            workers that failed together do not retry together.
    """

    attempts: int = 6
    first_seconds: float = 0.2
    max_seconds: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def pause(self, failures: int) -> None:
        """Wait after the given number of failures in a row (1 or more)."""
        seconds = min(self.max_seconds, self.first_seconds * 2.0 ** (failures - 1))
        self.sleep(seconds * (0.5 + 0.5 * self.jitter()))

    def run(self, call: Callable[[], _T]) -> _T:
        """Call until it succeeds, or fails with an error that a retry does not help.

        Raises:
            StorageUnavailableError: all attempts failed; the message has their number.
        """
        failures = 0
        while True:
            try:
                return call()
            except StorageUnavailableError as error:
                failures += 1
                if failures >= self.attempts:
                    raise self.exhausted(error) from error
            self.pause(failures)

    def exhausted(self, error: StorageUnavailableError) -> StorageUnavailableError:
        """Return the last error, with the number of attempts."""
        return StorageUnavailableError(f"{error} Gave up after {self.attempts} attempts.")
