"""A progress bar for long forks, on terminals only."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from airflow_allma.engine import BranchResult, BranchStatus

__all__ = ["Progress"]

_PATIENCE_SECONDS: Final = 1.0
"""A fork that ends sooner needs no bar."""


class Progress:
    """Counts branch runs on standard error once they have gone on for a second, on terminals only."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started: float | None = None
        self._done = 0
        self._failed = 0
        self._bar: Any = None

    def branch_ended(self, result: BranchResult) -> None:
        """Count one more branch run."""
        self._done += 1
        self._failed += result.status is BranchStatus.FAILED
        if not self._shown:
            return
        now = monotonic()
        if self._started is None:
            self._started = now
        if self._bar is None and now - self._started > _PATIENCE_SECONDS:
            from tqdm import tqdm

            self._bar = tqdm(
                desc="branch runs", unit="", file=sys.stderr, initial=self._done, mininterval=0.2
            )
        elif self._bar is not None:
            self._bar.update(1)
            if self._failed:
                self._bar.set_postfix(failed=self._failed, refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
