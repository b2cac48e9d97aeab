"""Whether results that a fork should have are still in the store; what was read before does not count."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_allma.distributed.chunk_layout import folder_of_chunk
from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.inspection.fork_reader import in_threads
from airflow_allma.inspection.fork_view import ChunkState, ForkView
from airflow_allma.storage import OffloadLocation

__all__ = ["gone_sentence", "has_lost_all", "lost_chunks"]


def has_lost_all(view: ForkView) -> bool:
    """Return whether chunks have ended with results, or all have ended, and nothing of any chunk is stored.

    Raises:
        StorageError: raised by the store.
    """
    folder = view.results_folder
    if folder is None:
        return False
    states = [view.state(chunk.number) for chunk in view.plan.chunks]
    # A chunk that was killed can have stored nothing: then the results of others may still come.
    is_expected = any(state.handed_on is not None and _stores_results(state) for state in states) or (
        bool(states) and all(_stores_results(state) for state in states)
    )
    is_handed_on = any("results" in (state.handed_on or {}) for state in states)
    return is_expected and not is_handed_on and _is_empty(view, folder)


def lost_chunks(view: ForkView, numbers: Iterable[int]) -> list[int]:
    """Return which of some chunks have ended, but have nothing stored, in order.

    Args:
        view: the fork.
        numbers: the chunks.

    Raises:
        StorageError: raised by the store.
    """
    folder = view.results_folder
    if folder is None:
        return []
    ended = sorted(number for number in set(numbers) if _stores_results(view.state(number)))
    empty = in_threads(lambda number: _is_empty(view, folder_of_chunk(folder, number)), ended)
    return [number for number, is_empty in zip(ended, empty, strict=True) if is_empty]


def gone_sentence(view: ForkView) -> str:
    """Return what to say where the results of a fork are asked for, and none is stored."""
    folder = view.results_folder
    where = "" if folder is None else f" in {folder.uri}"
    return (
        f"No results of {view.fork_id} are{where}: they were deleted, or never stored. Clear its chunks to "
        "run their items again."
    )


def _stores_results(state: ChunkState) -> bool:
    """Return whether a chunk has ended and stores its results, if it has any."""
    handed_on = state.handed_on
    if handed_on is None:
        return state.has_ended
    return "results" not in handed_on and bool(handed_on.get("items", 1))


def _is_empty(view: ForkView, folder: OffloadLocation) -> bool:
    try:
        return next(iter(view.store.list(folder.bucket, f"{folder.prefix}/", limit=1)), None) is None
    except ObjectNotFoundError:
        # A bucket, or a folder on disk, that does not exist.
        return True
