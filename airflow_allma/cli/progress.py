"""A progress bar for long forks, on terminals only."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from airflow_allma.engine import BranchResult, BranchStatus

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]

_DELAY_SECONDS: Final = 1.0
"""A fork that ends sooner gets no bar."""

_REFRESH_SECONDS: Final = 0.2


class Progress:
    """A counter of branch runs on standard error that appears after a second, on terminals only."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started: float | None = None
        self._refreshed = 0.0
        self._done = 0
        self._failed = 0
        self._bar: Bar | None = None

    def branch_ended(self, result: BranchResult) -> None:
        """Count one more branch run."""
        self._done += 1
        self._failed += result.status is BranchStatus.FAILED
        if not self._shown:
            return
        now = monotonic()
        if self._started is None:
            self._started = now
        if self._bar is None and now - self._started > _DELAY_SECONDS:
            self._bar = _new_bar()
        if self._bar is not None and now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            self._show(self._bar, now - self._started)

    def _show(self, bar: Bar, seconds: float) -> None:
        failed = f", failed={self._failed}" if self._failed else ""
        counts = f"{self._done:,} in {seconds:.0f} s, {self._done / seconds:,.0f}/s{failed}"
        bar.update(bar.task_ids[0], description=f"branch runs: {counts}", refresh=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None and self._started is not None:
            self._show(self._bar, monotonic() - self._started)
            self._bar.stop()


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        console=Console(file=sys.stderr),
        # Refreshed by hand, without a thread of its own.
        auto_refresh=False,
        # Standard output is one JSON object for other programs: rich would write it to the bar's console.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("branch runs", total=None)
    bar.start()
    return bar
