"""How a fork runs: which items get map indexes of their own, and which chunks the others make.

The tasks of a fork ask here, and so does ``airflow-allma plan``: nothing here imports Airflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_allma.exceptions import StorageError
from airflow_allma.operators.chunk_plan import ChunkSpec, list_chunks, manifest_chunks

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledFork, ForkItems, Services
    from airflow_allma.operators.settings import AllmaSettings
    from airflow_allma.storage import Pointer

__all__ = [
    "branches_fit",
    "chunk_concurrency",
    "decide_mode",
    "is_spilled",
    "plan_chunks_of",
    "plan_fork_chunks",
]


def branches_fit(fork: CompiledFork) -> bool:
    """Whether mapped tasks can keep ``maxConcurrency``.

    Each branch has a task of its own: a limit below their number can only be kept in one process.
    """
    return fork.max_concurrency is None or fork.max_concurrency >= len(fork.branches)


def decide_mode(fork: CompiledFork, found: ForkItems, settings: AllmaSettings) -> dict[str, Any]:
    """How a fork's items run.

    Returns:
        ``{"mode": "memory" | "chunks", "count"?, "bytes"?, "pointer"?}``; the bytes are those of the list's
        JSON, and only an object has no count.
    """
    if found.pointer is not None:
        return {"mode": "chunks", "pointer": found.pointer.inner()}
    items = found.values or []
    size = len(msgspec.json.encode(items))
    too_many = len(items) > settings.max_in_memory_items or size > settings.max_in_memory_bytes
    in_chunks = bool(items) and (too_many or not branches_fit(fork))
    return {"mode": "chunks" if in_chunks else "memory", "count": len(items), "bytes": size}


def plan_fork_chunks(
    decided: Mapping[str, Any],
    items: Callable[[], Sequence[Any]],
    services: Services,
    settings: AllmaSettings,
    where: tuple[str, ...],
) -> list[ChunkSpec]:
    """The chunks of a fork that runs in chunks.

    Args:
        decided: what ``decide_mode`` gave.
        items: gives the fork's list; asked only when it has to be written.
        services: the store and the offload location.
        settings: how large and how many.
        where: identifiers below the offload location for what has to be written.

    Raises:
        StorageError: an object cannot be read, or needs an offload location.
    """
    from airflow_allma.storage import Pointer

    inner = decided.get("pointer")
    if inner is not None:
        pointer = Pointer.parse(inner)
        if pointer is None:
            raise StorageError(f"The fork's items are at {inner}, which names no object.")
        return plan_chunks_of(pointer, services, settings, where)
    if is_spilled(decided, settings):
        return plan_chunks_of(_spilled(items(), services, where), services, settings, where)
    by_items = -(-decided["count"] // max(1, settings.max_in_memory_items))
    by_bytes = -(-decided["bytes"] // settings.chunk_bytes)
    return list_chunks(decided["count"], min(settings.max_chunks, max(by_items, by_bytes)))


def is_spilled(decided: Mapping[str, Any], settings: AllmaSettings) -> bool:
    """Whether a fork's list goes to the offload location before it is split."""
    return bool(settings.offload_location) and decided["bytes"] > settings.max_in_memory_bytes


def _spilled(items: Iterable[Any], services: Services, where: tuple[str, ...]) -> Pointer:
    """The fork's list as a JSON Lines object."""
    location, store = services.settings.offload_location, services.store
    if location is None or store is None:
        raise StorageError("There is no offload location.")
    pointer = location.pointer(*where, "items", ending=".jsonl")
    with store.open_writer(pointer, content_type="application/x-ndjson") as writer:
        for item in items:
            writer.write(msgspec.json.encode(item) + b"\n")
    return pointer


def plan_chunks_of(
    pointer: Pointer, services: Services, settings: AllmaSettings, where: tuple[str, ...]
) -> list[ChunkSpec]:
    """Plan the chunks of an object.

    Args:
        pointer: the object.
        services: its store.
        settings: how large and how many.
        where: identifiers below the offload location for lines that have to be made of something else.

    Raises:
        StorageError: it cannot be read, or needs an offload location.
    """
    from airflow_allma.storage.manifest_plan import plan_manifest

    store = services.store
    if store is None:
        raise StorageError(f"There is no store to read {pointer} from.")
    location = services.settings.offload_location
    plan = plan_manifest(
        store,
        pointer,
        chunk_bytes=settings.chunk_bytes,
        max_chunks=settings.max_chunks,
        spool_to=location.pointer(*where, "lines", ending=".jsonl") if location else None,
    )
    return manifest_chunks(plan, store)


def chunk_concurrency(
    fork: CompiledFork, chunks: int, chunks_at_a_time: int | None, settings: AllmaSettings
) -> int:
    """Branch runs in flight in one chunk, so that all chunks that run at a time keep the fork's limit."""
    if fork.max_concurrency is None:
        return settings.chunk_concurrency
    return max(1, fork.max_concurrency // max(1, min(chunks, chunks_at_a_time or chunks)))
