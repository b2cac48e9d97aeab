"""What a rerun of items of a fork will do, in words and as the requests to Airflow's own API that do it.

The requests are sent by whoever asked, with their own rights: this module only describes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from airflow_allma.common.counted import counted
from airflow_allma.dag_factory.plan import TaskPlan, TaskRole
from airflow_allma.distributed.item_selection import MAX_SELECTED_ITEMS, ForkSelection, next_generation
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.rerun_subject import RerunFork, RerunItems, RerunSubject, RerunWhat

__all__ = ["plan_rerun"]

_FAILED: Final = frozenset({"failed", "upstream_failed"})
_NAMED_TASKS: Final = 5


def plan_rerun(tasks: RerunFork, subject: RerunSubject, items: RerunItems) -> dict[str, Any]:
    """Return what a rerun will do.

    Args:
        tasks: the fork and its tasks.
        subject: which items.
        items: the same, as indexes.

    Returns:
        ``items``: how many run; ``sentence``: what will run; ``others``: what happens to the other items;
        both are empty if it is blocked; ``replaced``: which rerun never runs because of this one, or None;
        ``clear``: the body of ``POST /api/v2/dags/{dag_id}/clearTaskInstances``; ``selection``: the request
        to send before (``path`` below ``/api/v2``, ``method``, ``body``), or None; ``undo``: the request that
        makes the selection void, to send if Airflow refuses ``clear``, since the next clear would run only
        these items; or None; ``command``: a line for a shell that does the same; ``blocked``: why it cannot
        be done now, or None.
    """
    rerun = (_ChunkRerun if tasks.in_chunks else _MemoryRerun)(tasks, subject, items)
    instances = rerun.instances()
    count = rerun.count()
    blocked = _blocked(tasks, instances, subject)
    return {
        "items": count,
        # Without a rerun, what it would do is wrong, or only hides the reason.
        "sentence": "" if blocked else f"{rerun.what_runs(count)} {_downstream_sentence(tasks, instances)}",
        "others": "" if blocked else rerun.others(),
        "replaced": None if blocked else rerun.replaced(),
        "clear": {
            "dry_run": False,
            "dag_run_id": tasks.run_id,
            "task_ids": instances,
            # With the default, true, chunks that tolerate failed items would stay as they are.
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
            "prevent_running_task": True,
        },
        "selection": rerun.selection(),
        "undo": rerun.undo(),
        "command": _command(tasks, subject),
        "blocked": blocked,
    }


@dataclass(frozen=True, slots=True)
class _MemoryRerun:
    """The rerun of items that are task instances: their branches run again from their first task."""

    tasks: RerunFork
    subject: RerunSubject
    items: RerunItems

    def instances(self) -> list[list[Any]]:
        return [
            [self.tasks.first_task(branch).task_id, index]
            for branch, indexes in sorted(self.items.branches.items())
            for index in sorted(indexes)
        ]

    def count(self) -> int:
        return self.items.count

    def what_runs(self, count: int) -> str:
        branches = self.tasks.branches()
        where = {
            RerunWhat.FAILED: " in the branches that failed",
            RerunWhat.KIND: " in the branches that failed in this way",
            RerunWhat.ITEM: f" in all {branches} branches",
        }[self.subject.what]
        return f"{_subject_of(self.subject, count)} {_runs_again(count)}{where if branches > 1 else ''}."

    def others(self) -> str:
        return "All other items keep their results."

    def replaced(self) -> str | None:
        return None

    def selection(self) -> dict[str, Any] | None:
        return None

    def undo(self) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True, slots=True)
class _ChunkRerun:
    """The rerun of items that run in chunks."""

    tasks: RerunFork
    subject: RerunSubject
    items: RerunItems

    @property
    def numbers(self) -> list[int]:
        """The chunks that are cleared."""
        numbers = {number for number, items in self.items.chunks.items() if items or not self._is_exact}
        if self.subject.what is RerunWhat.FAILED:
            # A chunk whose process was lost has items without a result, and no failure of theirs.
            states = self.tasks.states.get(self.tasks.task(TaskRole.CHUNK).task_id, {})
            numbers |= {number for number, state in states.items() if state in _FAILED and number >= 0}
        return sorted(numbers.union(self._lost))

    @property
    def _lost(self) -> Sequence[int]:
        """The chunks whose results are gone; none if results are not stored, as nothing can be gone then."""
        return self.items.lost if self.tasks.is_stored else ()

    @property
    def _is_exact(self) -> bool:
        """Whether the chunks run nothing but the items that are meant."""
        if not self.tasks.is_stored:
            return False
        selected = sum(map(len, self.items.chunks.values()))
        few = self.items.is_complete and selected <= MAX_SELECTED_ITEMS
        return self.subject.what is RerunWhat.FAILED or few

    def instances(self) -> list[list[Any]]:
        task = self.tasks.task(TaskRole.CHUNK).task_id
        return [[task, number] for number in self.numbers]

    def count(self) -> int:
        if not self.tasks.is_stored:
            return self._all_items(self.numbers) or self.items.count
        if not self._lost:
            return self.items.count
        kept = sum(len(items) for number, items in self.items.chunks.items() if number not in self._lost)
        return kept + self._all_items(self._lost)

    def _all_items(self, numbers: Iterable[int]) -> int:
        return sum(self.tasks.chunk_items.get(number) or 0 for number in numbers)

    def what_runs(self, count: int) -> str:
        chunks = counted(len(self.numbers), "chunk")
        if not self.tasks.is_stored:
            return f"All items of {chunks} run again: {_items(count)}, good ones too."
        if self._lost:
            return self._what_runs_without_results()
        if not self._is_exact:
            is_many = self.items.count > MAX_SELECTED_ITEMS
            reason = f"These are more than {MAX_SELECTED_ITEMS:,} items" if is_many else "Not all are listed"
            return f"{reason}, so all failed items of {chunks} run again."
        if self.subject.what is RerunWhat.FAILED and not count:
            return f"The items without a result run again, in {chunks}."
        return f"{_subject_of(self.subject, count)} {_runs_again(count)}, in {chunks}."

    def _what_runs_without_results(self) -> str:
        lost = counted(len(self._lost), "chunk")
        count = self._all_items(self._lost)
        every = (
            f"Results of {lost} are gone: they were deleted, or never stored. All items of {lost} run again"
            f"{f': {_items(count)}' if count else ''}, good ones too."
        )
        kept = len(self.numbers) - len(self._lost)
        if not kept:
            return every
        kind = " of this kind" if self.subject.what is RerunWhat.KIND and self._is_exact else ""
        return f"{every} Of {counted(kept, 'other chunk')} the failed items{kind} run again."

    def others(self) -> str:
        if self._lost:
            return "Good items of chunks whose results are still stored keep them."
        if not self.tasks.is_stored:
            return (
                "Results of chunks are not stored. With [allma] offload_location only the selected items "
                "would run again."
            )
        if self._is_exact and self.subject.what is not RerunWhat.FAILED:
            return "All other items of these chunks keep their results, failed ones too."
        return "All good items keep their results."

    def replaced(self) -> str | None:
        """Return which items were selected before, and wait for their chunks to run.

        A selection is written before its chunks are cleared, and stays if nobody knows whether they were.
        """
        if self.tasks.selection is None:
            return None
        try:
            selection = ForkSelection.parse(self.tasks.selection)
        except ValueError:
            return None
        waiting = 0
        for number, items in selection.chunks.items():
            if self.tasks.chunk_starts.get(int(number), 0) < selection.generation:
                waiting += len(set(items).difference(self.items.chunks.get(int(number), ())))
        if not waiting:
            return None
        written = datetime.fromtimestamp(selection.generation, UTC)
        was = "was" if waiting == 1 else "were"
        return (
            f"{counted(waiting, 'other item')} {was} selected to run again at {written:%Y-%m-%d %H:%M} UTC, "
            "and that rerun has not begun: this one replaces it."
        )

    def selection(self) -> dict[str, Any] | None:
        return _written(self.tasks, self._selection(), is_new=self.tasks.selection is None)

    def undo(self) -> dict[str, Any] | None:
        selection = self._selection()
        if selection is None or not selection.chunks:
            return None
        return _written(self.tasks, ForkSelection.of(selection.generation + 1, {}), is_new=False)

    def _selection(self) -> ForkSelection | None:
        """Return the selection to write.

        One that was written before, and never ran, must not restrict a rerun of all failed items.
        """
        is_selected = self._is_exact and self.subject.what is not RerunWhat.FAILED
        if not is_selected and self.tasks.selection is None:
            return None
        # Of a chunk without results all items run, whatever is selected.
        chunks = {
            number: sorted(items)
            for number, items in self.items.chunks.items()
            if items and number not in self._lost
        }
        generation = next_generation(_generation(self.tasks.selection))
        return ForkSelection.of(generation, chunks if is_selected else {})


def _written(tasks: RerunFork, selection: ForkSelection | None, *, is_new: bool) -> dict[str, Any] | None:
    """Return the request that writes a selection."""
    if selection is None:
        return None
    task = tasks.task(TaskRole.CHUNKS).task_id
    parts = ["dags", tasks.dag_id, "dagRuns", tasks.run_id, "taskInstances", task, "xcomEntries"]
    path = "/".join(quote(part, safe="") for part in parts)
    body: dict[str, Any] = {"value": selection.encode(), "map_index": -1}
    if is_new:
        return {"path": path, "method": "POST", "body": {"key": Key.RERUN.value, **body}}
    return {"path": f"{path}/{Key.RERUN.value}", "method": "PATCH", "body": body}


def _generation(encoded: Any) -> int:
    """Return the generation of the selection that is replaced."""
    try:
        return ForkSelection.parse(encoded).generation
    except ValueError:
        return 0


def _subject_of(subject: RerunSubject, count: int) -> str:
    match subject.what:
        case RerunWhat.ITEM:
            return f"Item {subject.index}"
        case RerunWhat.KIND:
            return f"The {_items(count, 'failed')} of this kind"
    return f"The {_items(count, 'failed')}"


def _runs_again(count: int) -> str:
    return "runs again" if count == 1 else "run again"


def _items(count: int, which: str = "") -> str:
    return counted(count, f"{which} item" if which else "item")


def _downstream_sentence(tasks: RerunFork, instances: Iterable[Sequence[Any]]) -> str:
    """Return which tasks run after the items."""
    inside = {node.task_id for node in tasks.plan.of_fork(tasks.fork)}
    after = [task for task in _downstream(tasks.plan, {task for task, _ in instances}) if task not in inside]
    aggregate = tasks.task(TaskRole.AGGREGATE).task_id
    if not after:
        return f"Then {aggregate} joins all results again."
    named = ", ".join(after[:_NAMED_TASKS])
    more = len(after) - _NAMED_TASKS
    rest = f" and {more:,} more" if more > 0 else ""
    count = "the task" if len(after) == 1 else f"the {len(after):,} tasks"
    return f"Then {aggregate} joins all results again, and {count} after it can run again: {named}{rest}."


def _downstream(plan: TaskPlan, beginning: Collection[str]) -> Iterator[str]:
    """Yield the tasks that wait for some tasks, directly or not, in the order of the plan."""
    reached = set(beginning)
    for node in plan.tasks:
        if node.task_id not in reached and not reached.isdisjoint(node.upstream):
            reached.add(node.task_id)
            yield node.task_id


def _blocked(tasks: RerunFork, instances: Sequence[Any], subject: RerunSubject) -> str | None:
    if tasks.run_state in {"running", "queued"}:
        return f"The run is {tasks.run_state}: items can run again when it has ended."
    if running := tasks.running():
        count = "1 task of this fork has" if running == 1 else f"{running:,} tasks of this fork have"
        return f"{count} not ended yet: items can run again after that."
    for role in (TaskRole.ITEMS, TaskRole.CHUNKS):
        task = tasks.task(role).task_id
        if (state := tasks.states.get(task, {}).get(-1)) in _FAILED:
            return f"Task {task} is {state}: clear it and its downstream tasks, to run all items."
    if not instances:
        if subject.what is RerunWhat.ITEM:
            return f"No task has run item {subject.index}, or will."
        if subject.what is RerunWhat.KIND:
            return f"No failed item of this fork is of kind {subject.kind}."
        return "No item of this fork has failed."
    return None


def _command(tasks: RerunFork, subject: RerunSubject) -> str:
    parts = ["airflow-allma", "rerun", "--fork", tasks.fork]
    if subject.what is RerunWhat.KIND:
        parts += ["--kind", subject.kind or ""]
    elif subject.what is RerunWhat.ITEM:
        parts += ["--index", str(subject.index)]
    names = [tasks.dag_id, tasks.run_id]
    if any(name.startswith("-") for name in names):
        parts.append("--")
    return shlex.join([*parts, *names])
