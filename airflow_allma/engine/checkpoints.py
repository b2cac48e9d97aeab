"""Checkpoints: named milestones of a flow, and the last one that a run has passed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.flow import Step

__all__ = ["Milestone", "milestones_of", "pass_milestone"]


class Milestone(msgspec.Struct, frozen=True):
    """A checkpoint, and its place among those of its flow.

    Attributes:
        id: its id.
        label: its display name.
        ordinal: its place, from 1.
        total: how many the flow has.
    """

    id: str
    label: str
    ordinal: int
    total: int

    @property
    def percent(self) -> int:
        """How much of the flow is done, rounded half up."""
        return (200 * self.ordinal + self.total) // (2 * self.total)


def milestones_of(steps: Mapping[str, Step]) -> dict[str, Milestone]:
    """Return step id -> milestone, for the steps that mark one.

    They are in the order of ``order``; those without one come last, in the order of the flow.
    """
    marked = [(step_id, step.checkpoint) for step_id, step in steps.items() if step.checkpoint is not None]
    marked.sort(key=lambda one: (one[1].order is None, one[1].order or 0))
    return {
        step_id: Milestone(checkpoint.id, checkpoint.label, ordinal, len(marked))
        for ordinal, (step_id, checkpoint) in enumerate(marked, 1)
    }


def pass_milestone(milestone: Milestone, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the value of ``$.reachedCheckpoint`` when a run passes a milestone.

    Args:
        milestone: the one that it passes.
        before: the value so far.

    Returns:
        None if the run has been there or further already: it never moves back.
    """
    if before is not None and milestone.ordinal <= before["ordinal"]:
        return None
    return {
        "id": milestone.id,
        "label": milestone.label,
        "ordinal": milestone.ordinal,
        "total": milestone.total,
        "percent": milestone.percent,
        "reachedAt": iso_milliseconds(datetime.now(UTC)),
    }
