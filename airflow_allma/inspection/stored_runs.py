"""Finding a fork of a run by what is stored of it, without asking Airflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from airflow_allma.distributed.chunk_layout import (
    PLAN_FILE,
    fork_of_key,
    results_of_fork,
    split_chunk_key,
)
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.result_index import StoredPlan, read_plan
from airflow_allma.exceptions import ItemNotFoundError, ObjectNotFoundError
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.storage import ObjectStore, OffloadLocation

__all__ = ["StoredFork", "find_fork"]

_MAX_LISTED: Final = 20_000
"""Objects of a run that are looked at to name its forks."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredFork:
    """A fork of a run that was found.

    Attributes:
        view: the fork.
        plan: the stored plan; None for a run of an older version, of which only the results are known.
        older: how many older plans of the fork have results too.
    """

    view: ForkView
    plan: StoredPlan | None
    older: int


@dataclass(slots=True)
class _Plan:
    """What is stored for one plan."""

    written: datetime = _LONG_AGO
    is_planned: bool = False
    chunks: set[int] = field(default_factory=set)


def find_fork(store: ObjectStore, run: OffloadLocation, fork: str) -> StoredFork:
    """Return the fork with its newest plan.

    Args:
        store: the store of the folder.
        run: the run's folder.
        fork: the fork's step id.

    Raises:
        ItemNotFoundError: nothing is stored of it; the message names the forks that have results.
        StorageError: raised by the store.
    """
    results = results_of_fork(run, fork)
    plans = _list_plans(store, results)
    if not plans:
        raise ItemNotFoundError(_not_found(store, run, fork))
    token = max(plans, key=lambda token: (plans[token].written, token))
    stored = read_plan(store, results.below(token))
    chunk_plan = _plan_of(plans[token], token) if stored is None else stored.plan
    view = ForkView(fork, chunk_plan, store, run)
    return StoredFork(view, stored, len(plans) - 1)


def _list_plans(store: ObjectStore, results: OffloadLocation) -> dict[str, _Plan]:
    """Return token -> what is stored for the plan."""
    plans: dict[str, _Plan] = {}
    prefix = f"{results.prefix}/"
    try:
        for info in store.list(results.bucket, prefix):
            token, _, name = info.pointer.key.removeprefix(prefix).partition("/")
            in_chunk = split_chunk_key(name)
            written = info.last_modified or _LONG_AGO
            if name == PLAN_FILE:
                plan = plans.setdefault(token, _Plan())
                plan.is_planned = True
                plan.written = written
            elif in_chunk is not None:
                plan = plans.setdefault(token, _Plan())
                plan.chunks.add(in_chunk[0])
                if not plan.is_planned:
                    plan.written = max(plan.written, written)
    except ObjectNotFoundError:
        return {}
    return plans


def _plan_of(found: _Plan, token: str) -> ChunkPlan:
    """Return a plan of the chunks that have results; nothing else is known of them."""
    chunks = [ChunkSpec(number, f"chunk {number}") for number in sorted(found.chunks)]
    return ChunkPlan(tuple(chunks), None, token, 1)


def _not_found(store: ObjectStore, run: OffloadLocation, fork: str) -> str:
    forks = set()
    try:
        for info in store.list(run.bucket, f"{run.prefix}/", _MAX_LISTED):
            name = fork_of_key(info.pointer.key.removeprefix(f"{run.prefix}/"))
            if name is not None:
                forks.add(name)
    except ObjectNotFoundError:
        pass
    if forks:
        known = ", ".join(sorted(forks)[:20])
        return f"{run.uri} has no results of a fork {fork!r}; it has those of {known}."
    return (
        f"{run.uri} has no results of a fork. Check the name. Forks with a map index for each item store "
        "none, and neither do forks without [allma] offload_location."
    )
