"""Trying again after a store did not answer well: bounded, with exponential back-off and jitter."""

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
    """How often and how fast to try again.

    Attributes:
        attempts: tries in all, the first one included.
        first_seconds: the longest pause before the second try; each later one is twice as long.
        longest_seconds: no pause is longer.
        sleep: waits for seconds; tests pass their own.
        jitter: a number from 0 to 1; a pause is between half and all of its length, so that many workers
            that failed together do not come back together.
    """

    attempts: int = 6
    first_seconds: float = 0.2
    longest_seconds: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def pause(self, failures: int) -> None:
        """Wait after the given number of failures in a row (1 or more)."""
        longest = min(self.longest_seconds, self.first_seconds * 2.0 ** (failures - 1))
        self.sleep(longest * (0.5 + 0.5 * self.jitter()))

    def run(self, call: Callable[[], _T]) -> _T:
        """Call until it answers, or fails in a way that trying again does not help.

        Raises:
            StorageUnavailableError: the last try failed so, too; the message counts the tries.
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
        """The last error, with the number of tries."""
        return StorageUnavailableError(f"{error} Gave up after {self.attempts} attempts.")
