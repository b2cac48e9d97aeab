"""The items of a chunk that somebody has selected to run again.

The selection is an XCom of the fork's ``chunks`` task, which clearing a chunk does not delete, and which is
gone when ``chunks`` plans again. It is written over Airflow's API before the chunk's task is cleared, and
works once: clearing the task another time reruns the items that failed, as without a selection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.xcoms import Key, pull_raw

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkSpec
    from airflow_allma.distributed.item_selection import ItemSelection
    from airflow_allma.distributed.result_sinks import ResultSink
    from airflow_allma.operators.try_notes import TryNotes

__all__ = ["load_selection"]


def load_selection(
    ti: Any, chunks_task: str, chunk: ChunkSpec, sink: ResultSink, notes: TryNotes
) -> ItemSelection | None:
    """Return the items that are the only ones to run; None if all without a success are.

    A chunk without results asks for nothing: all of its items run.

    Args:
        ti: the chunk's task instance.
        chunks_task: full id of the fork's ``chunks`` task.
        chunk: the chunk.
        sink: its results.
        notes: those of the task instance.

    Raises:
        PermanentStepError: the XCom is not a selection.
        StorageError: the chunk's summary cannot be read.
    """
    if sink.is_empty or (encoded := pull_raw(ti, chunks_task, Key.RERUN)) is None:
        return None
    from airflow_allma.distributed.item_selection import ForkSelection

    try:
        selection = ForkSelection.parse(encoded).of_chunk(chunk)
    except ValueError as error:
        raise PermanentStepError(
            f"XCom {Key.RERUN} of task {chunks_task} is not a selection of items: {error}. Delete it to "
            "rerun the items that failed, or write it again; then clear this task and its downstream tasks."
        ) from error
    if selection is None:
        return None
    # A try that was lost after its last item must not make the next one run what was not selected.
    if sink.last_generation() >= selection.generation and not notes.has_selection(selection.generation):
        return None
    notes.add_selection(selection.generation)
    return selection
