"""One item with everything that is known about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.distributed.result_index import ItemTrace
from airflow_allma.distributed.result_reader import error_with_index
from airflow_allma.engine import label_of
from airflow_allma.exceptions import AllmaError, InspectionError, ItemNotFoundError, StorageError
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.fork_reader import ForkReader, ItemPosition
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.item_input import ItemInput, place_of, read_input
from airflow_allma.inspection.item_rows import cut_value
from airflow_allma.inspection.page_rows import lost_note, rows_of
from airflow_allma.inspection.stored_lines import FoundLine
from airflow_allma.storage.decoding import decode_line

__all__ = ["PARTS", "item_detail", "item_value"]

PARTS: Final = ("input", "output", "error")


class _Found(NamedTuple):
    """An item and the results of its branches.

    Attributes:
        position: its indexes, in the fork and in its chunk.
        chunk: its chunk.
        lines: the result that counts of each branch.
        line: the one that is shown; None if it has none.
    """

    position: ItemPosition
    chunk: ChunkReader
    lines: Sequence[FoundLine]
    line: FoundLine | None


def item_detail(view: ForkView, index: int, branch: str | None = None) -> dict[str, Any]:
    """Return one item: input, output or error, trace, chunk, and where its line is.

    Values above 1 MiB are cut, see ``item_rows.cut_value``. Secrets are masked with the view's ``mask``.

    Args:
        view: the fork.
        index: the item.
        branch: which branch run; None for the first that failed, otherwise the first that ran.

    Raises:
        ItemNotFoundError: the item or branch does not exist.
        StorageError: the store cannot be read.
    """
    reader = ForkReader(view)
    found = _find(reader, index, branch)
    chunk = found.chunk
    notes = lost_note(reader)
    item_input = None
    try:
        item_input = read_input(view, chunk, found.position.item, found.lines)
    except StorageError as error:
        notes.append(f"The input cannot be read: {error}")
    return {
        **_statuses(reader, found),
        **_values(view, found, item_input),
        **_trace(reader, found),
        "chunk": _chunk(reader, found),
        "line": None if item_input is None else place_of(view, chunk, item_input),
        "task": {
            "taskId": f"{view.fork_id}.chunk",
            "mapIndex": chunk.state.map_index,
            "logUrl": None,
            "uiUrl": None,
        },
        "previous": index - 1 if index else None,
        "next": index + 1 if reader.has(index + 1) else None,
        "tries": chunk.state.tries,
        "note": " ".join(notes) or None,
    }


def _statuses(reader: ForkReader, found: _Found) -> dict[str, Any]:
    """Return the fields of the branch run that is shown, and the status of each branch."""
    position, line = found.position, found.line
    rows = rows_of(reader, position, {position.item: found.lines})
    shown = next((row for row in rows if line is None or row["branch"] == line.branch), rows[0])
    return {
        **{name: shown[name] for name in ("index", "label", "branch", "status", "message")},
        "branches": [{"branch": row["branch"], "status": row["status"]} for row in rows],
    }


def _chunk(reader: ForkReader, found: _Found) -> dict[str, Any]:
    chunk = found.chunk
    return {
        "number": chunk.number,
        "label": chunk.spec.label,
        "mapIndex": chunk.state.map_index,
        "first": reader.first_of(found.position.chunk),
        "count": chunk.items,
    }


def _values(view: ForkView, found: _Found, item_input: ItemInput | None) -> dict[str, Any]:
    """Return input, output or error as they are shown, and the label if only the input has it."""
    position, line = found.position, found.line
    values: dict[str, Any] = {"input": None, "inputCut": False}
    if item_input is not None and item_input.size:
        values["input"], values["inputCut"] = cut_value(item_input.value, item_input.size, view.mask)
        if view.fork is not None and found.chunk.label(position.item) is None:
            with suppress(AllmaError):
                values["label"] = label_of(view.fork, decode_line(item_input.value), position.index or 0)
    if line is not None and line.size:
        part = "output" if line.status == "ok" else "error"
        values[part], values[f"{part}Cut"] = cut_value(line.value, line.size, view.mask)
        if part == "error" and found.chunk.spec.first is None and position.index is not None:
            values[part] = error_with_index(values[part], position.index)
    return values


def item_value(view: ForkView, index: int, part: str, branch: str | None = None) -> Iterator[bytes]:
    """Return the blocks of an item's whole input, output or error, as JSON; nothing of it is masked.

    Args:
        view: the fork.
        index: the item.
        part: ``input``, ``output`` or ``error``.
        branch: as for ``item_detail``.

    Raises:
        InspectionError: the part is none of ``PARTS``.
        ItemNotFoundError: the item or branch does not exist, or it lacks this value.
        StorageError: the store cannot be read; also raised while the blocks are read.
    """
    if part not in PARTS:
        raise InspectionError(f"part must be one of {', '.join(PARTS)}; it is {part[:40]!r}.")
    reader = ForkReader(view)
    found = _find(reader, index, branch)
    line = found.line
    if part == "input":
        item_input = read_input(view, found.chunk, found.position.item, found.lines)
        if item_input is None or not item_input.size:
            raise ItemNotFoundError(f"The input of item {index} is not known.")
        if (
            len(item_input.value) == item_input.size
            or item_input.offset is None
            or found.chunk.spec.manifest is None
        ):
            return iter((item_input.value,))
        manifest = found.chunk.spec.manifest
        end = item_input.offset + item_input.size
        return view.store.stream(manifest.pointer, item_input.offset, end, if_match=manifest.etag)
    if line is None or line.status != ("ok" if part == "output" else "failed"):
        raise ItemNotFoundError(" ".join([f"Item {index} has no {part}.", *lost_note(reader)]))
    if line.is_whole or line.part is None:
        return iter((line.value,))
    return view.store.stream(line.part, line.start, line.start + line.size)


def _find(reader: ForkReader, index: int, branch: str | None) -> _Found:
    position = reader.require_item(index)
    chunk = reader.chunks[position.chunk]
    lines = reader.results({position.chunk: [position.item]}).get(position.chunk, {}).get(position.item, [])
    if branch is None:
        shown = next((line for line in lines if line.status == "failed"), None)
        shown = shown or next((line for line in lines if line.status == "ok"), lines[0] if lines else None)
        return _Found(position, chunk, lines, shown)
    for line in lines:
        if line.branch == branch:
            return _Found(position, chunk, lines, line)
    known = list(reader.view.branches) or [line.branch for line in lines]
    if branch not in known:
        raise ItemNotFoundError(f"{reader.view.fork_id} has no branch {branch[:80]!r}: {', '.join(known)}.")
    return _Found(position, chunk, lines, None)


def _trace(reader: ForkReader, found: _Found) -> dict[str, Any]:
    """Return the steps of the branch run that is shown, or why there are none."""
    view, line = reader.view, found.line
    if found.chunk.number in reader.lost:
        return {"trace": None, "traceNote": "The record of the steps was deleted with the results."}
    chosen: ItemTrace | None = None
    try:
        for encoded in found.chunk.objects.traces(found.position.item):
            trace = msgspec.json.decode(encoded, type=ItemTrace)
            if line is not None and trace.branch == line.branch and trace.status.value == line.status:
                chosen = trace
    except (StorageError, msgspec.DecodeError) as error:
        return {"trace": None, "traceNote": f"The record of the steps cannot be read: {error}"}
    if chosen is None:
        return {"trace": None, "traceNote": _why_no_trace(found, view)}
    shown: dict[str, Any] = {"trace": view.mask(chosen.steps), "traceNote": chosen.note or None}
    if chosen.omitted_steps:
        shown["omittedSteps"] = chosen.omitted_steps
    return shown


def _why_no_trace(found: _Found, view: ForkView) -> str:
    line, chunk = found.line, found.chunk
    replay = "airflow-allma replay runs the item again on your machine and shows its steps."
    if line is None:
        return "The item has not ended: no steps are recorded yet."
    if chunk.inline is not None or view.location is None:
        return "Without [allma] offload_location the steps of items in chunks are in the task's log only."
    index = chunk.files.index
    if index is None and (chunk.state.handed_on is not None or chunk.counts.is_final):
        return f"This chunk ran before the steps of items were recorded. {replay}"
    if line.status == "failed":
        if index is not None and index.untraced:
            return f"So many items of this chunk failed that not all are recorded. {replay}"
        return f"The steps of this item are not recorded: [allma] trace_items may be none. {replay}"
    if line.status == "skipped":
        return "The branch does not apply to the item: no step ran."
    return (
        "Only the steps of failed items are recorded. For those of all items set enableExecutionLogs in the "
        f"flow, or [allma] trace_items to all or to a sample such as sample:1000. {replay}"
    )
