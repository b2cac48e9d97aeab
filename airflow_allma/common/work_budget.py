"""The budget of one step: how much work its expressions, templates and modules can do.

Work is counted only where it can multiply: values that paths with operators visit, turns of loops, values and
characters that are made. A step that computes never returns to the event loop, so ``step_timeout_seconds``
cannot end it; this budget does.

The budget of the current step is in a context variable: every asyncio task has its own. Outside of steps the
outermost evaluation of an expression has a default budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from airflow_allma.exceptions import WorkLimitError

__all__ = [
    "DEFAULT_MAX_STEP_WORK",
    "LONG_TEXT",
    "MEASURE_AFTER",
    "POINTS",
    "WorkBudget",
    "begin_step",
    "current_budget",
    "note_data",
    "own_budget",
    "refill_budget",
    "spend_text",
    "spend_values",
    "with_own_budget",
]

_T = TypeVar("_T")

DEFAULT_MAX_STEP_WORK: Final = 10_000_000
"""Units of work of one step. Ten million take up to ten seconds, and their values about 1 GB."""

POINTS: Final = 10
"""Points in one unit: a value or a turn of a loop takes one unit, a character one point."""

LONG_TEXT: Final = 4096
"""Strings of templates without loops count only if they are longer: a flow has a bounded number of them."""

MEASURE_AFTER: Final = 10_000_000
"""Points after which the size of a run's data is measured: steps that do less make little data."""

_UNLIMITED: Final = 1 << 62


class WorkBudget:
    """What is left of a step's budget.

    Attributes:
        max_work: units that the step can spend; 0 means no limit.
        points: the same in points.
        left: points that are left; below zero once the budget is exceeded.
        step: id of the step, for the error; None outside of steps.
        unmeasured: points that earlier steps spent since the size of the run's data was last measured.
        measure_after: points after which it is measured again.
    """

    __slots__ = ("left", "max_work", "measure_after", "points", "step", "unmeasured")

    def __init__(self, max_work: int = DEFAULT_MAX_STEP_WORK, step: str | None = None) -> None:
        self.max_work = max_work
        self.points = self.left = max_work * POINTS or _UNLIMITED
        self.step = step
        self.unmeasured = 0
        self.measure_after = MEASURE_AFTER

    def spend(self, points: int) -> None:
        """Count work.

        Raises:
            WorkLimitError: the step has now done more than its budget allows.
        """
        self.left -= points
        if self.left < 0:
            raise WorkLimitError(self.max_work, self.step)

    @property
    def points_since_measured(self) -> int:
        """The points that were spent since the size of the run's data was last measured."""
        return self.unmeasured + self.points - self.left

    @property
    def spent(self) -> int:
        """Units of work that were spent, rounded up."""
        return -((self.left - self.points) // POINTS)

    def measured(self, *, after: int) -> None:
        """Note that the run's data was measured; ``after`` is when it is measured again."""
        self.unmeasured = self.left - self.points
        self.measure_after = after


_CURRENT: Final[ContextVar[WorkBudget | None]] = ContextVar("allma_work_budget", default=None)

current_budget: Final = _CURRENT.get
"""Return the budget of the current step; None outside of steps."""


def begin_step(max_work: int, step: str) -> None:
    """Give the step that begins in this context a full budget."""
    budget = _CURRENT.get()
    if budget is None or budget.max_work != max_work:
        budget = WorkBudget(max_work, step)
        # The data can come from another process, which did not measure it with this step's output.
        budget.unmeasured = MEASURE_AFTER
        _CURRENT.set(budget)
        return
    if budget.left != budget.points:
        budget.unmeasured += budget.points - budget.left
        budget.left = budget.points
    budget.step = step


def note_data(points: int) -> None:
    """Note that a step received data: that costs no work, but can make the run's data large."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.unmeasured += points


def refill_budget() -> None:
    """Forget the work of the current step, because it is about to be done again."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.left = budget.points


@contextmanager
def own_budget(max_work: int = DEFAULT_MAX_STEP_WORK, step: str | None = None) -> Iterator[WorkBudget]:
    """Use a budget of its own for a block; afterwards the one around it, unchanged, is current again."""
    budget = WorkBudget(max_work, step)
    token = _CURRENT.set(budget)
    try:
        yield budget
    finally:
        _CURRENT.reset(token)


def with_own_budget(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function with a default budget: what ``own_budget`` does, for code that is called often."""
    token = _CURRENT.set(WorkBudget())
    try:
        return function(*args)
    finally:
        _CURRENT.reset(token)


def spend_values(count: int) -> None:
    """Count values that were visited or made, if this is a step."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.spend(count * POINTS)


def spend_text(length: int) -> None:
    """Count characters that were written, if this is a step."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.spend(length)
