"""What the tries of a task note for the next ones, in Airflow's task state store.

A retry cannot see how the try before it ended: its own failure, a lost process and an API server that did
not answer look the same, and Airflow deletes a task's XComs before it runs again. So a try notes what the
next one must know: that a step may have had side effects, and how often the step has failed by itself. Tries
without anything to note, which are nearly all, make no request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.exceptions import StepLostError

__all__ = ["TryNotes"]

_KEY: Final = "allma"


class TryNotes:
    """The notes of one task instance.

    They count for one round of tries: clearing a task begins a new round.

    Args:
        context: Airflow's context of the try.
        retries: Airflow's retries of the task.
    """

    def __init__(self, context: Mapping[str, Any], retries: int) -> None:
        self._ti = context["ti"]
        self._store = context.get("task_state_store")
        self._round = int(self._ti.max_tries) - retries
        self._tries_before = max(0, int(self._ti.try_number) - 1 - self._round)
        self._notes: dict[str, Any] | None = None

    def failures(self) -> int:
        """Return how often the step has failed by itself in this round, without the tries that were lost."""
        if self._store is None:
            return self._tries_before
        return int(self._read().get("failures", 0)) if self._tries_before else 0

    def add_failure(self) -> int:
        """Note that the step failed by itself and is to be retried; return how often it had failed before."""
        before = self.failures()
        self._write({"failures": before + 1})
        return before

    def has_parked(self) -> bool:
        """Return whether an earlier try of this round has parked."""
        return bool(self._tries_before and self._read().get("parked"))

    def add_parked(self) -> None:
        """Note that this round has parked."""
        if not self.has_parked():
            self._write({"parked": True})

    def has_selection(self, generation: int) -> bool:
        """Return whether an earlier try of this round has run the items of this selection."""
        return bool(self._tries_before and self._read().get("selection") == generation)

    def add_selection(self, generation: int) -> None:
        """Note that this round runs the items of a selection."""
        if not self.has_selection(generation):
            self._write({"selection": generation})

    def begin_side_effects(self, step: str, steps: tuple[str, ...]) -> None:
        """Note that steps which must not run twice may have side effects from now on.

        Args:
            step: the step that names the task.
            steps: those steps of the task; empty if all can be repeated.

        Raises:
            StepLostError: an earlier try of this round has noted the same, and was lost.
        """
        if not steps:
            return
        if self._tries_before:
            # Without a store it is unknown what an earlier try did.
            before = int(self._ti.try_number) - 1
            lost = before if self._store is None else self._read().get("effects")
            if lost is not None:
                raise lost_step(step, steps, int(lost))
        self._write({"effects": int(self._ti.try_number)})

    def _read(self) -> dict[str, Any]:
        if self._notes is None:
            saved: Any = self._store.get(_KEY) if self._store is not None else None
            is_current = isinstance(saved, dict) and saved.get("round") == self._round
            self._notes = dict(saved) if is_current else {}
        return self._notes

    def _write(self, change: Mapping[str, Any]) -> None:
        if self._store is None:
            return
        before = self._read() if self._tries_before else {}
        self._notes = {"round": self._round, **before, **change}
        self._store.set(_KEY, self._notes)


def lost_step(step: str, steps: tuple[str, ...], number: int) -> StepLostError:
    """Return the error of a step that is not repeated."""
    subject = f"Step {step}" if steps == (step,) else f"Steps {', '.join(steps)} of this task"
    return StepLostError(
        f"{subject} may have had side effects before try {number} was lost (its process died, or Airflow's "
        "API server did not answer), so it is not repeated. Find out whether it had, then clear the task to "
        "run it again. If it can be repeated without harm, give it onError.retries, or set [allma] "
        "retry_lost_steps.",
        details={"lostTry": number, "failedStepInstanceId": step},
    )
