"""What a caller knows about a fork of a run before anything is read from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_allma.distributed.chunk_layout import folder_of_chunk, results_of_fork
from airflow_allma.distributed.chunk_plan import ChunkPlan
from airflow_allma.engine import CompiledFork
from airflow_allma.engine.masking import mask_secrets
from airflow_allma.inspection.object_cache import ObjectCache
from airflow_allma.storage import ObjectStore, OffloadLocation

__all__ = ["ChunkState", "ForkView"]

ENDED_STATES: Final = frozenset({"success", "failed"})


@dataclass(frozen=True, slots=True)
class ChunkState:
    """What the caller knows about the task of one chunk.

    Attributes:
        state: ``success``, ``failed``, ``running``, ``queued``, ``waiting`` (for events) or ``none``.
        handed_on: what the task passed to the aggregate (``allma_results``); None as long as it has not.
        version: any string that changes when the task runs again, such as try and end; results that were
            read are read again when it changes. Empty if unknown.
        map_index: its map index.
        tries: how often the task ran.
        start: when it began, seconds since the epoch.
        end: when it ended.
    """

    state: str = "none"
    handed_on: Mapping[str, Any] | None = None
    version: str = ""
    map_index: int | None = None
    tries: int = 0
    start: float | None = None
    end: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended, well or badly."""
        return self.state in ENDED_STATES


_UNKNOWN: Final = ChunkState()


@dataclass(frozen=True, slots=True)
class ForkView:
    """One fork of one run, as its caller sees it.

    Pointers come from the plan alone. Whoever makes a view has checked that the plan is the run's own.

    Attributes:
        fork_id: the fork's step id.
        plan: its chunks.
        store: where results and manifests are.
        location: the run's own folder below the offload location; None if results are not stored.
        chunks: chunk number -> what is known about its task.
        branches: the branches' ids in the order of the flow; empty if unknown.
        fork: the compiled fork, for the labels of items whose chunk has not ended; None if unknown.
        values: returns the fork's list where the items are one; None if it cannot be had.
        name: the fork's name.
        is_running: whether the run has not ended.
        cache: what was read before from the same store; share one among views of one store.
        mask: masks the secrets in values that pages show.
        first_only: whether only the first branch that applies runs for an item.
    """

    fork_id: str
    plan: ChunkPlan
    store: ObjectStore
    location: OffloadLocation | None
    chunks: Mapping[int, ChunkState] = field(default_factory=dict)
    branches: Sequence[str] = ()
    fork: CompiledFork | None = None
    values: Callable[[], Sequence[Any]] | None = None
    name: str = ""
    is_running: bool = False
    mask: Callable[[Any], Any] = mask_secrets
    first_only: bool = False
    cache: ObjectCache = field(default_factory=ObjectCache)

    def state(self, number: int) -> ChunkState:
        """Return what is known about the task of a chunk."""
        return self.chunks.get(number, _UNKNOWN)

    def folder(self, number: int) -> OffloadLocation | None:
        """Return the folder of a chunk's results; None if results are not stored."""
        results = self.results_folder
        return None if results is None else folder_of_chunk(results, number)

    @property
    def skips_nothing(self) -> bool:
        """Whether it is known that every item has exactly one branch run, which is not skipped."""
        if self.fork is None or len(self.fork.branches) != 1:
            return False
        return not self.fork.branches[0].is_conditional

    @property
    def results_folder(self) -> OffloadLocation | None:
        """The folder of the results of all chunks of this plan."""
        if self.location is None:
            return None
        return results_of_fork(self.location, self.fork_id).below(self.plan.token)
