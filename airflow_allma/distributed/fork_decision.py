"""The decision where a fork's items run: each as a map index of its own, or together in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec

from airflow_allma.engine import CompiledFork, ForkItems
from airflow_allma.engine.fork_limits import MAX_CONCURRENCY
from airflow_allma.exceptions import StorageError
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import ObjectPrefix, Pointer

__all__ = ["ForkDecision", "ForkMode", "decide_fork"]

_WITHIN_LIMITS: Final = "within max_in_memory_items and max_in_memory_bytes"


class ForkMode(StrEnum):
    """Where a fork's items run."""

    MEMORY = "memory"
    """Each item is a map index of its own."""
    CHUNKS = "chunks"
    """The items run in chunks, each chunk in one task."""


@dataclass(frozen=True, slots=True)
class ForkDecision:
    """How a fork runs.

    Attributes:
        mode: where its items run.
        count: how many there are; None for an object, which is not counted here.
        size: bytes of the list's JSON; None for an object.
        pointer: the object that holds the items, or the prefix of the objects that are the items; None for a
            list.
        reason: why, in one sentence; not saved.
        computed: the fork's numbers that are JSONPaths, as ``ForkLimits.computed``.
    """

    mode: ForkMode
    count: int | None = None
    size: int | None = None
    pointer: Pointer | ObjectPrefix | None = None
    reason: str = ""
    computed: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as a JSON object, for ``from_dict``."""
        saved: dict[str, Any] = {"mode": self.mode.value}
        if self.computed:
            saved["limits"] = dict(self.computed)
        if self.pointer is not None:
            return {**saved, "pointer": self.pointer.inner()}
        return {**saved, "count": self.count, "bytes": self.size}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ForkDecision:
        """Restore what ``to_dict`` returned.

        Raises:
            StorageError: the saved pointer does not name an object.
        """
        pointer = None
        if "pointer" in saved:
            pointer = ObjectPrefix.parse(saved["pointer"]) or Pointer.parse(saved["pointer"])
            if pointer is None:
                raise StorageError(
                    f"The fork's items are at {saved['pointer']}, which does not name an object."
                )
        return cls(
            ForkMode(saved["mode"]),
            saved.get("count"),
            saved.get("bytes"),
            pointer,
            computed=saved.get("limits") or {},
        )


def decide_fork(fork: CompiledFork, items: ForkItems, settings: AllmaSettings) -> ForkDecision:
    """Decide how a fork runs, by the number and size of its items and by its ``maxConcurrency``."""
    limits = items.limits or fork.limits.fixed
    computed, most = limits.computed, limits.max_concurrency
    if items.pointer is not None:
        is_prefix = isinstance(items.pointer, ObjectPrefix)
        reason = "the items are the objects below a prefix" if is_prefix else "the items are in an object"
        return ForkDecision(ForkMode.CHUNKS, pointer=items.pointer, reason=reason, computed=computed)
    values = items.values or []
    count, size = len(values), len(msgspec.json.encode(values))
    if not values:
        mode, reason = ForkMode.MEMORY, _WITHIN_LIMITS
    elif count > settings.max_in_memory_items:
        mode, reason = ForkMode.CHUNKS, f"more than {settings.shown('max_in_memory_items')}"
    elif count > settings.max_waiting_tasks and fork.waits_for_events:
        mode = ForkMode.CHUNKS
        reason = f"items wait for events, and they are more than {settings.shown('max_waiting_tasks')}"
    elif size > settings.max_in_memory_bytes:
        mode, reason = ForkMode.CHUNKS, f"more than {settings.shown('max_in_memory_bytes')}"
    elif most is not None and MAX_CONCURRENCY in computed:
        # Airflow's limit of mapped tasks is a part of the Dag, which is older than the run.
        mode = ForkMode.CHUNKS
        reason = f"maxConcurrency ({most}) is a JSONPath, so that only chunks can keep it"
    elif most is not None and most < len(fork.branches):
        # Each branch has a mapped task of its own: only one process can keep a limit below their number.
        mode = ForkMode.CHUNKS
        reason = f"maxConcurrency ({most}) is below the number of branches"
    else:
        mode, reason = ForkMode.MEMORY, _WITHIN_LIMITS
    return ForkDecision(mode, count, size, reason=reason, computed=computed)
