"""What forks inside of forks may take in one process: their depth and the number of their branch runs.

The items of nested forks multiply: five levels of 60 items are 777 million branch runs, from a payload of 200
bytes. A fork on the main path is not limited here: its branch runs are as many as its items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_allma.exceptions import PermanentStepError

__all__ = ["ForkLoad"]

_NESTED_RUNS_PER_ITEM: Final = 1_000
"""Each item of the outermost fork adds as many: many small nested forks are not a multiplication."""

_MAX_IN_FLIGHT: Final = 4096
"""Branch runs in flight in one process; beyond it, a nested fork runs its items one after the other."""


@dataclass(slots=True)
class ForkLoad:
    """Counts the branch runs of one process.

    Attributes:
        nested_runs: branch runs of nested forks so far, in the current run of the outermost fork.
        outer_runs: branch runs of that outermost fork that have begun.
        in_flight: coroutines that run branches now.
    """

    nested_runs: int = 0
    outer_runs: int = 0
    in_flight: int = 0

    def enter(self, step_id: str, depth: int, runs: int, *, max_depth: int, max_runs: int) -> None:
        """Count the branch runs of a fork before it begins.

        Args:
            step_id: the fork.
            depth: how many branch runs are around it; 0 on the main path.
            runs: its branch runs, if its items are a list in the run's data; 0 if they are read from an
                object.
            max_depth: the setting ``max_fork_depth``.
            max_runs: the setting ``max_nested_branch_runs``.

        Raises:
            PermanentStepError: the fork is nested too deeply, or the nested forks have too many branch runs.
        """
        if not depth:
            self.nested_runs = self.outer_runs = 0
            return
        if max_depth and depth >= max_depth:
            raise PermanentStepError(
                f"Step {step_id}: {depth} forks are around this one, and [allma] max_fork_depth is "
                f"{max_depth}. End the nesting where there are no more items (a condition of "
                "the branch, or an itemsPath into $.currentItem), or raise the setting.",
                details={"maxForkDepth": max_depth},
            )
        self.nested_runs += runs
        allowed = max_runs + self.outer_runs * _NESTED_RUNS_PER_ITEM
        if max_runs and self.nested_runs > allowed:
            raise PermanentStepError(
                f"Step {step_id}: the forks inside of forks need more than {allowed} branch runs in this "
                f"process, and [allma] max_nested_branch_runs is {max_runs}. Flatten the lists into one "
                "fork, write the items to an object, or raise the setting.",
                details={"maxNestedBranchRuns": max_runs},
            )

    def workers(self, depth: int, limit: int) -> int:
        """Return how many coroutines run a fork's branches; ``limit`` is that of the fork or the settings."""
        most = max(1, _MAX_IN_FLIGHT // max(1, self.in_flight)) if depth else _MAX_IN_FLIGHT
        return min(limit, most)
