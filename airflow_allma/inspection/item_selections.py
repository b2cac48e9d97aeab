"""Which items a rerun of failures means, chunk by chunk."""

from __future__ import annotations

from typing import Any, Final

from airflow_allma.distributed.item_selection import MAX_SELECTED_ITEMS
from airflow_allma.exceptions import InspectionError
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.deleted_results import lost_chunks
from airflow_allma.inspection.failure_pages import failure_lists, matching_failures
from airflow_allma.inspection.fork_reader import ForkReader
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.item_query import ItemQuery
from airflow_allma.inspection.read_budget import Budget

__all__ = ["selected_items"]

_WHAT: Final = ("failed", "kind", "item")


def selected_items(
    view: ForkView,
    what: str,
    *,
    kind: str | None = None,
    index: int | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Return the items that a rerun means: ``{"items", "chunks", "isComplete", "lost"}``.

    ``items`` is how many there are, None if that is not known; ``chunks`` is chunk number -> indexes in the
    chunk. With more than 10,000 items, or failures that are not listed, ``isComplete`` is False: the indexes
    are then the first ones, but the chunks are all that have such items, as far as that is known. ``lost``
    are the chunks of which nothing is stored although they have ended: all their items run again.

    Args:
        view: the fork.
        what: ``failed`` for all failed items, ``kind`` for those of one kind, ``item`` for one item.
        kind: the kind.
        index: the item.
        budget: how much may be read.

    Raises:
        InspectionError: an argument is not allowed or missing.
        ItemNotFoundError: the item does not exist.
        StorageError: raised by the store.
    """
    if what not in _WHAT or (what == "kind" and not kind) or (what == "item" and index is None):
        raise InspectionError("what must be failed, kind (with a kind) or item (with an index).")
    reader = ForkReader(view, budget)
    if what == "item":
        position = reader.require_item(index or 0)
        number = reader.chunks[position.chunk].number
        chunks = {number: [position.item]}
        return {"items": 1, "chunks": chunks, "isComplete": True, "lost": lost_chunks(view, chunks)}
    return _failed_items(reader, ItemQuery(show="failed", kind=kind if what == "kind" else None))


def _failed_items(reader: ForkReader, query: ItemQuery) -> dict[str, Any]:
    reader.load(reader.chunks)
    counts = [None if chunk.failed is None else min(chunk.failed, 1) for chunk in reader.chunks]
    chunks: dict[int, list[int]] = {}
    selected, is_complete = 0, True
    for number, failures in failure_lists(reader, counts, 0, MAX_SELECTED_ITEMS):
        chunk = reader.chunks[number]
        items = sorted({failure.item for failure in matching_failures(chunk, failures.entries, query)})
        is_complete = is_complete and failures.is_complete
        if items or not failures.is_complete:
            chunks[chunk.number] = items[: max(MAX_SELECTED_ITEMS - selected, 0)]
        selected += len(items)
    failed = {chunk.number for chunk in reader.chunks if _has_failures(chunk, query)}
    lost = lost_chunks(reader.view, failed.union(chunks))
    if unread := set(lost).difference(chunks):
        # What has failed in them is not known any more.
        chunks |= {number: [] for number in unread}
        is_complete = is_complete and all(reader.view.state(number).handed_on is None for number in unread)
    is_listed = is_complete and not reader.is_stopped
    return {
        "items": selected if is_listed else None,
        "chunks": chunks,
        "isComplete": is_listed and selected <= MAX_SELECTED_ITEMS,
        "lost": lost,
    }


def _has_failures(chunk: ChunkReader, query: ItemQuery) -> bool:
    """Return whether a chunk can have items that a query means, although it lists none."""
    if (chunk.state.handed_on or {}).get("failed"):
        return not query.kind or chunk.files.index is None
    # A chunk that was killed can have stored nothing yet.
    return not query.kind and chunk.state.state == "failed"
