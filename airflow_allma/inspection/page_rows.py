"""The rows of given items of a fork."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_allma.common.counted import counted
from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.distributed.result_index import FailureLine
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.failure_entries import failure_line
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition, in_threads
from airflow_allma.inspection.item_rows import item_row
from airflow_allma.inspection.result_lookup import error_of
from airflow_allma.inspection.stored_lines import FoundLine

__all__ = ["failure_row", "item_rows", "lost_note", "rows_of"]

_ERROR_BYTES: Final = 64 << 10
_UNFINISHED: Final = frozenset({"running", "waiting"})


def item_rows(reader: ForkReader, items: Sequence[ItemPosition]) -> list[list[dict[str, Any]]]:
    """Return the rows of each item: one for each branch.

    Raises:
        StorageError: raised by the store.
    """
    wanted: dict[int, list[int]] = {}
    for position in items:
        wanted.setdefault(position.chunk, []).append(position.item)
    found = reader.results({chunk: sorted(set(of)) for chunk, of in wanted.items()}, _ERROR_BYTES)
    chunks = [reader.chunks[number] for number in wanted]
    in_threads(lambda chunk: chunk.label(0), chunks, lambda chunk: chunk.has_at_hand(ChunkFile.LABELS))
    return [rows_of(reader, position, found[position.chunk]) for position in items]


def rows_of(
    reader: ForkReader, position: ItemPosition, found: Mapping[int, Sequence[FoundLine]]
) -> list[dict[str, Any]]:
    """Return the rows of an item, from the results that its chunk has."""
    chunk = reader.chunks[position.chunk]
    lines = found.get(position.item, ())
    rows = [_row(chunk, position, line.branch, line.status, _failure(line)) for line in lines]
    known = {line.branch for line in lines}
    missing = [branch for branch in reader.view.branches if branch not in known]
    has_run = any(line.status != "skipped" for line in lines)
    if (reader.view.first_only and has_run) or (lines and not reader.view.branches):
        return rows
    if not lines and not reader.view.branches:
        return [_row(chunk, position, None, _unfinished(chunk))]
    return rows + [_row(chunk, position, branch, _unfinished(chunk)) for branch in missing]


def failure_row(reader: ForkReader, position: ItemPosition, failure: FailureLine) -> dict[str, Any]:
    """Return the row of a failure that is listed."""
    return _row(reader.chunks[position.chunk], position, failure.branch, "failed", failure)


def lost_note(reader: ForkReader) -> list[str]:
    """Return a sentence about results that are gone, if there are any."""
    lost = sorted(reader.lost)
    if not lost:
        return []
    folder = reader.view.results_folder
    where = "" if folder is None else f" in {folder.uri}"
    note = (
        f"Results of {counted(len(lost), 'chunk')} (the first is chunk {lost[0]}) are not{where} any more: "
        "somebody, or a lifecycle rule of the bucket, deleted them. Clear these chunks to run their items "
        "again."
    )
    return [note]


def _row(
    chunk: ChunkReader,
    position: ItemPosition,
    branch: str | None,
    status: str,
    failure: FailureLine | None = None,
) -> dict[str, Any]:
    label = (failure.label if failure is not None else "") or chunk.label(position.item)
    message = ""
    if status == "none" and chunk.state.has_ended:
        message = "No result is stored: the chunk ended before the item did, or the result was deleted."
    return item_row(
        index=position.index,
        label=label,
        branch=branch,
        status=status,
        failure=failure,
        message=message,
        chunk=chunk.number,
        item=position.item,
        map_index=chunk.state.map_index,
    )


def _unfinished(chunk: ChunkReader) -> str:
    """Return the status of the items of a chunk that have no result."""
    return chunk.state.state if chunk.state.state in _UNFINISHED else "none"


def _failure(line: FoundLine) -> FailureLine | None:
    if line.status != "failed":
        return None
    error = error_of(line)
    return failure_line(line.item, line.branch, line.offset, error if isinstance(error, dict) else {})
