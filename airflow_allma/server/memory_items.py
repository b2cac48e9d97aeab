"""The items of a fork in memory, in the forms in which those in chunks are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_allma.common.printable import printable
from airflow_allma.distributed.result_index import KindCount
from airflow_allma.engine.failure_kinds import kind_of
from airflow_allma.exceptions import ItemNotFoundError
from airflow_allma.inspection import ItemQuery
from airflow_allma.inspection.fork_progress import fork_progress
from airflow_allma.inspection.fork_summary import KindCounts
from airflow_allma.inspection.item_query import page
from airflow_allma.inspection.item_rows import error_row, item_row, shown_value
from airflow_allma.inspection.search_text import SearchText
from airflow_allma.server.memory_runs import BranchRun, MemoryFork

__all__ = [
    "ItemValues",
    "memory_counts",
    "memory_detail",
    "memory_download",
    "memory_page",
    "memory_value",
    "require_item",
]

_NO_TRACE: Final[Mapping[str, str]] = {
    "ok": "Only the steps of failed items are recorded. For those of all items set enableExecutionLogs in "
    "the flow, or [allma] trace_items to all or to a sample such as sample:1000.",
    "failed": "Nothing is recorded of the steps: the item's process was lost, it ran with a version that "
    "recorded none, or [allma] trace_items is none. Clear the item's tasks to run it again.",
    "skipped": "The branch does not apply to the item: no step ran.",
}
_NOT_ENDED: Final = "The steps are recorded when the item has ended."


@dataclass(frozen=True, slots=True)
class ItemValues:
    """The values of items, which are read only where they are shown.

    Attributes:
        inputs: returns the fork's list; None if it cannot be had.
        outputs: returns the output of each of some branch runs that succeeded.
        traces: returns the steps of a branch run.
        mask: masks the secrets in a value.
    """

    inputs: Callable[[], Sequence[Any] | None]
    outputs: Callable[[Sequence[BranchRun]], Sequence[Any]]
    traces: Callable[[BranchRun], Sequence[Any]]
    mask: Callable[[Any], Any]


def memory_counts(fork: MemoryFork, *, is_running: bool, now: float) -> dict[str, Any]:
    """Return the counts and times of a fork: ``succeeded``, ``failed`` and ``skipped`` are of branch runs."""
    counts = Counter(run.status for run in fork.runs)
    statuses = [{run.status for run in fork.of_item(index)} for index in range(fork.count)]
    ended = sum(status <= {"ok", "failed", "skipped"} for status in statuses)
    tasks = [task for run in fork.runs for task in run.tasks]
    start = min((task.start.timestamp() for task in tasks if task.start is not None), default=None)
    is_running = is_running and ended < fork.count
    end = None
    if not is_running:
        end = max((task.end.timestamp() for task in tasks if task.end is not None), default=None)
    return {
        "items": fork.count,
        "isExact": True,
        "ended": ended,
        "succeeded": counts["ok"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
        "running": sum("running" in status for status in statuses),
        "waiting": sum("waiting" in status for status in statuses),
        **fork_progress(start=start, end=end, now=now, is_running=is_running, ended=ended, items=fork.count),
        "kinds": _kinds(fork),
    }


def _kinds(fork: MemoryFork) -> list[dict[str, Any]]:
    kinds = KindCounts()
    for run in fork.runs:
        if run.error is not None:
            kinds.add(KindCount.of(kind_of(run.error), 1, run.index), run.index)
    return kinds.to_list()


def memory_page(fork: MemoryFork, query: ItemQuery, values: ItemValues) -> dict[str, Any]:
    """Return a page of items; see ``inspection.item_page`` for its form."""
    searched = _searched_values(fork, values) if query.text and not query.is_of_failures else {}
    rows = ((run, _row(run)) for run in fork.runs)
    search = SearchText(query.text or "")
    hits = [(run.index, row) for run, row in rows if _fits(query, row, search, searched.get(id(run), ()))]
    if query.is_of_failures or query.label:
        shown = hits[query.start : query.start + query.limit]
        following = query.start + query.limit if len(hits) > query.start + query.limit else None
    else:
        after = [(index, row) for index, row in hits if index >= query.start]
        # All branches of an item are on one page.
        last = after[query.limit - 1][0] if len(after) > query.limit else fork.count
        shown = [(index, row) for index, row in after if index <= last]
        following = last + 1 if len(shown) < len(after) else None
    is_all = query.show == "all" and not (query.kind or query.label or query.text or query.branch)
    total = fork.count if is_all else len(hits)
    return page([row for _, row in shown], total=total, is_exact=True, next_start=following)


def _searched_values(fork: MemoryFork, values: ItemValues) -> dict[int, list[Any]]:
    """Return the input and the output of each branch run, by its identity, as far as they are known."""
    inputs = values.inputs() or ()
    searched = {id(run): [inputs[run.index]] for run in fork.runs if run.index < len(inputs)}
    succeeded = [run for run in fork.runs if run.status == "ok"]
    for run, output in zip(succeeded, values.outputs(succeeded), strict=True):
        searched.setdefault(id(run), []).append(output)
    return searched


def _fits(query: ItemQuery, row: Mapping[str, Any], search: SearchText, searched: Sequence[Any]) -> bool:
    if not query.fits(dict(row)) or (query.kind and row["kind"] != query.kind):
        return False
    if query.label and query.label.casefold() not in str(row["label"]).casefold():
        return False
    if not query.text:
        return True
    text = query.text.casefold()
    texts = [str(row[name]) for name in ("label", "step", "errorName", "message") if row[name]]
    values = [msgspec.json.encode(value) for value in searched]
    texts += (value.decode() for value in values)
    return any(text in candidate.casefold() for candidate in texts) or any(map(search.is_in, values))


def _row(run: BranchRun) -> dict[str, Any]:
    return item_row(
        index=run.index,
        label=run.label,
        branch=run.branch,
        status=run.status,
        failure=None if run.error is None else error_row(run.error, run.branch),
        seconds=run.seconds,
        map_index=run.index,
    )


def require_item(fork: MemoryFork, index: int) -> tuple[BranchRun, ...]:
    """Return the branch runs of an item; raises ItemNotFoundError if the item does not exist."""
    if not 0 <= index < fork.count:
        raise ItemNotFoundError(f"There is no item {index}: the fork has {fork.count} items, from 0.")
    return fork.of_item(index)


def _find_run(fork: MemoryFork, index: int, branch: str | None) -> BranchRun:
    """Return a branch run of an item: without a branch the first that failed, or else the first that ran.

    Raises:
        ItemNotFoundError: the item or branch does not exist.
    """
    runs = require_item(fork, index)
    if branch is not None:
        found = next((run for run in runs if run.branch == branch), None)
        if found is None:
            known = ", ".join(fork.branches)
            raise ItemNotFoundError(f"The fork has no branch {branch[:80]!r}: {known}.")
        return found
    by_status = {run.status: run for run in reversed(runs)}
    chosen = next((by_status[status] for status in ("failed", "ok") if status in by_status), None)
    return chosen or runs[0]


def memory_detail(
    fork: MemoryFork, values: ItemValues, index: int, branch: str | None = None
) -> dict[str, Any]:
    """Return one item with everything that is known about it; see ``inspection.item_detail`` for its form.

    Raises:
        ItemNotFoundError: the item or branch does not exist.
    """
    if not fork.branches:
        raise ItemNotFoundError("The fork has no branches: nothing runs for its items.")
    run = _find_run(fork, index, branch)
    row = _row(run)
    detail: dict[str, Any] = {
        **{name: row[name] for name in ("index", "label", "branch", "status", "message")},
        "branches": [{"branch": other.branch, "status": other.status} for other in fork.of_item(index)],
    }
    inputs = values.inputs() or ()
    has_input = index < len(inputs)
    shown = shown_value(inputs[index], values.mask) if has_input else (None, False)
    detail["input"], detail["inputCut"] = shown
    if run.status == "ok":
        (output,) = values.outputs([run])
        detail["output"], detail["outputCut"] = shown_value(output, values.mask)
    elif run.error is not None:
        detail["error"], detail["errorCut"] = shown_value(run.error, values.mask)
    steps = values.traces(run)
    task = run.task
    return {
        **detail,
        "trace": values.mask(list(steps)) if steps else None,
        "traceNote": None if steps else _NO_TRACE.get(run.status, _NOT_ENDED),
        "chunk": None,
        "line": None,
        "task": {
            "taskId": task.task_id if task is not None else None,
            "mapIndex": index,
            "logUrl": None,
            "uiUrl": None,
        },
        "previous": index - 1 if index else None,
        "next": index + 1 if index + 1 < fork.count else None,
        "tries": max((row.tries for row in run.tasks), default=0),
        "note": None if has_input else "The item's input is not known any more.",
    }


def memory_value(
    fork: MemoryFork, values: ItemValues, index: int, part: str, branch: str | None = None
) -> bytes:
    """Return an item's whole input, output or error as JSON.

    Raises:
        ItemNotFoundError: the item or branch does not exist, or it lacks this value.
    """
    run = _find_run(fork, index, branch)
    if part == "input":
        inputs = values.inputs() or ()
        if index < len(inputs):
            return msgspec.json.encode(inputs[index])
    elif part == "output" and run.status == "ok":
        (output,) = values.outputs([run])
        return msgspec.json.encode(output)
    elif part == "error" and run.error is not None:
        return msgspec.json.encode(run.error)
    raise ItemNotFoundError(f"Item {index} has no {printable(part[:40])}.")


def memory_download(fork: MemoryFork, values: ItemValues, show: str) -> Iterator[bytes]:
    """Yield JSON Lines, one for each branch run that has ended, as ``inspection.download`` does."""
    wanted = {"failed": {"failed"}, "succeeded": {"ok"}}.get(show, {"ok", "failed", "skipped"})
    runs = [run for run in fork.runs if run.status in wanted]
    succeeded = [run for run in runs if run.status == "ok"]
    outputs = dict(zip(map(id, succeeded), values.outputs(succeeded), strict=True))
    for run in runs:
        line: dict[str, Any] = {"itemIndex": run.index}
        if run.label:
            line["label"] = run.label
        line |= {"branch": run.branch, "status": run.status}
        if run.status == "ok":
            line["output"] = outputs[id(run)]
        elif run.error is not None:
            line["error"] = run.error
        yield msgspec.json.encode(line) + b"\n"
