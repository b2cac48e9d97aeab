"""What pages ask about the items of a fork, whether they run in chunks or have map indexes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Protocol

import msgspec
from airflow.utils.session import create_session

from airflow_allma.compat import redact_connections
from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.distributed.chunk_plan import ChunkPlan
from airflow_allma.engine import list_in_context
from airflow_allma.engine.failure_kinds import kind_of
from airflow_allma.engine.masking import mask_secrets
from airflow_allma.exceptions import AllmaError, InspectionError, StorageError
from airflow_allma.inspection import (
    ChunkState,
    ForkView,
    ItemQuery,
    download,
    fork_summary,
    item_detail,
    item_page,
    item_value,
    selected_items,
)
from airflow_allma.operators.run_states import restored_state
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.fork_views import ForkState, empty_summary
from airflow_allma.server.memory_items import (
    ItemValues,
    memory_counts,
    memory_detail,
    memory_download,
    memory_page,
    memory_value,
    require_item,
)
from airflow_allma.server.memory_runs import BranchRun, MemoryFork
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.run_database import find_xcoms
from airflow_allma.server.run_rows import TaskRow
from airflow_allma.server.run_view import STEP_STATES, epoch
from airflow_allma.server.stores import OpenStore, Stores
from airflow_allma.server.ui_paths import log_path, task_path
from airflow_allma.storage import load_content
from airflow_allma.storage.unavailable import UnavailableStore

__all__ = ["ForkAnswers", "answers_of", "merged_traces"]

_SHOWN: Final = ("all", "failed", "succeeded")
_RETURN_VALUE: Final = "return_value"
_NO_ANSWER: Final = UnavailableStore("the store did not answer in time.")


class ForkAnswers(Protocol):
    """Answers about the items of one fork of a run; each can read a store, and takes its time."""

    def summary(self) -> dict[str, Any]:
        """Return the counts of the fork."""

    def quick_summary(self) -> dict[str, Any]:
        """Return the counts of the fork as far as Airflow's database knows them."""

    def page(self, query: ItemQuery) -> dict[str, Any]:
        """Return a page of items."""

    def detail(self, index: int, branch: str | None) -> dict[str, Any]:
        """Return one item."""

    def value(self, index: int, part: str, branch: str | None) -> Iterator[bytes]:
        """Return one value of an item, whole, as JSON."""

    def download(self, show: str) -> Iterator[bytes]:
        """Return items as JSON Lines."""

    def selected(self, what: str, kind: str | None, index: int | None) -> dict[str, Any]:
        """Return the items that a rerun means; see ``inspection.selected_items``."""


def answers_of(state: ForkState, stores: Stores) -> ForkAnswers:
    """Return what answers questions about a fork."""
    if state.is_in_chunks and state.plan is not None:
        return _ChunkAnswers(state, stores)
    return _MemoryAnswers(state, stores)


def _mask(value: Any) -> Any:
    """Mask what has a secret's name, and the secrets that Airflow knows here."""
    return redact_connections(mask_secrets(value))


@dataclass(frozen=True)
class _Answers:
    state: ForkState
    stores: Stores

    @property
    def opened(self) -> OpenStore:
        return self.stores.of_flow(self.state.found.flow)

    @property
    def fork_id(self) -> str:
        return self.state.tasks.fork

    def inputs(self) -> list[Any] | None:
        """Return the fork's list; None if it cannot be had.

        Raises:
            StorageError: the run's state is stored and cannot be read.
        """
        state, run_id = self.state, self.state.run.run_id
        task = state.tasks.task(TaskRole.ITEMS)
        with create_session() as session:
            rows = [*find_xcoms(session, state.dag_id, run_id, [task], [Key.STATE.value])]
        saved = rows[0].json() if rows else None
        if not isinstance(saved, dict):
            return None
        whole = restored_state(saved, self._load)
        if isinstance(whole.get("items"), list):
            return list(whole["items"])
        try:
            return list_in_context(state.found.program.fork(self.fork_id), whole["context"])
        except (AllmaError, LookupError, TypeError):
            return None

    def _load(self, stored: Any) -> dict[str, Any]:
        opened = self.opened
        pointer = opened.own_pointer(stored, self.state.dag_id, self.state.run.run_id)
        whole = load_content(opened.store, pointer)
        if not isinstance(whole, dict):
            raise StorageError(f"{pointer} is not the state of a run.")
        return whole

    def with_links(self, detail: dict[str, Any], task_id: str | None) -> dict[str, Any]:
        """Return an item with the paths of its task."""
        task = {**detail["task"], "taskId": task_id}
        if task_id is not None and task["mapIndex"] is not None:
            where = (self.state.dag_id, self.state.run.run_id, task_id, task["mapIndex"])
            task |= {"logUrl": log_path(*where, detail["tries"]), "uiUrl": task_path(*where)}
        return {**detail, "task": task}


class _ChunkAnswers(_Answers):
    """Of a fork whose items run in chunks: from what the chunks have stored."""

    @cached_property
    def view(self) -> ForkView:
        state, opened, flow = self.state, self.opened, self.state.found
        try:
            plan = ChunkPlan.from_dict(state.plan or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotFoundError(
                f"The plan of fork {self.fork_id} cannot be read: somebody has changed the XCom "
                f"{Key.PLAN.value} of its task {state.tasks.task(TaskRole.CHUNKS)}. Clear that task."
            ) from error
        rows = {row.map_index: row for row in state.chunks}
        return ForkView(
            fork_id=self.fork_id,
            plan=plan,
            store=opened.store,
            location=opened.run_folder(state.dag_id, state.run.run_id),
            chunks={
                chunk.number: _chunk_state(rows.get(map_index), state.handed_on.get(map_index))
                for map_index, chunk in enumerate(plan.chunks)
            },
            branches=[branch.branch_id for branch in state.tasks.group.step.parallel_branches],
            fork=flow.program.fork(self.fork_id),
            values=lambda: self.inputs() or (),
            name=state.tasks.group.label,
            is_running=state.run.is_running,
            mask=_mask,
            first_only=flow.program.fork(self.fork_id).first_only,
            cache=opened.cache,
        )

    def summary(self) -> dict[str, Any]:
        return fork_summary(self.view, time.time())

    def quick_summary(self) -> dict[str, Any]:
        return fork_summary(replace(self.view, store=_NO_ANSWER), time.time())

    def page(self, query: ItemQuery) -> dict[str, Any]:
        return item_page(self.view, query)

    def detail(self, index: int, branch: str | None) -> dict[str, Any]:
        task = self.state.tasks.task(TaskRole.CHUNK)
        return self.with_links(item_detail(self.view, index, branch), task)

    def value(self, index: int, part: str, branch: str | None) -> Iterator[bytes]:
        return item_value(self.view, index, part, branch)

    def download(self, show: str) -> Iterator[bytes]:
        return download(self.view, show)

    def selected(self, what: str, kind: str | None, index: int | None) -> dict[str, Any]:
        return selected_items(self.view, what, kind=kind, index=index)


def _chunk_state(row: TaskRow | None, handed_on: Any) -> ChunkState:
    if row is None:
        return ChunkState()
    state = STEP_STATES.get(row.state, "none")
    return ChunkState(
        state=state if state in {"success", "failed", "running", "queued", "waiting"} else "none",
        handed_on=handed_on,
        version=f"{row.tries}-{epoch(row.end)}",
        map_index=row.map_index,
        tries=row.tries,
        start=epoch(row.start),
        end=epoch(row.end),
    )


class _MemoryAnswers(_Answers):
    """Of a fork whose items have map indexes of their own, or whose items are not known yet."""

    @property
    def memory(self) -> MemoryFork:
        return self.state.memory or MemoryFork(0, (), ())

    @property
    def values(self) -> ItemValues:
        return ItemValues(self.inputs, self.outputs, self.traces, _mask)

    def outputs(self, runs: Sequence[BranchRun]) -> list[Any]:
        """Return the outputs of branch runs that succeeded."""
        tasks = sorted({task.task_id for run in runs for task in run.tasks})
        indexes = [runs[0].index] if len(runs) == 1 else None
        found = self._pushed(tasks, (_RETURN_VALUE, Key.RESULT.value), indexes)
        return [_output(run, found) for run in runs]

    def traces(self, run: BranchRun) -> list[Any]:
        """Return the steps of a branch run."""
        tasks = [task.task_id for task in run.tasks]
        found = self._pushed(tasks, (Key.TRACE.value,), [run.index])
        traces = [_steps(found.get((task, run.index, Key.TRACE.value))) for task in tasks]
        return merged_traces([steps for steps in traces if steps])

    def _pushed(
        self, tasks: Sequence[str], keys: Sequence[str], map_indexes: Sequence[int] | None
    ) -> dict[tuple[str, int, str], Any]:
        state = self.state
        with create_session() as session:
            rows = find_xcoms(session, state.dag_id, state.run.run_id, tasks, keys, map_indexes=map_indexes)
            return {(row.task_id, row.map_index, row.key): row.value for row in rows}

    def summary(self) -> dict[str, Any]:
        summary = empty_summary(self.state)
        if self.state.memory is None:
            return summary
        return summary | memory_counts(
            self.state.memory, is_running=self.state.run.is_running, now=time.time()
        )

    def quick_summary(self) -> dict[str, Any]:
        return self.summary()

    def page(self, query: ItemQuery) -> dict[str, Any]:
        found = memory_page(self.memory, query, self.values)
        if self.state.memory is None:
            no_items = self.state.no_items
            undecided = "The run has not decided yet which items the fork has."
            found["note"] = undecided if no_items is None else no_items["reason"]
        return found

    def detail(self, index: int, branch: str | None) -> dict[str, Any]:
        detail = memory_detail(self.memory, self.values, index, branch)
        return self.with_links(detail, detail["task"]["taskId"])

    def value(self, index: int, part: str, branch: str | None) -> Iterator[bytes]:
        return iter((memory_value(self.memory, self.values, index, part, branch),))

    def download(self, show: str) -> Iterator[bytes]:
        if show not in _SHOWN:
            raise InspectionError(f"show must be one of {', '.join(_SHOWN)}; it is {show[:40]!r}.")
        return memory_download(self.memory, self.values, show)

    def selected(self, what: str, kind: str | None, index: int | None) -> dict[str, Any]:
        fork = self.memory
        if what == "item":
            runs = [*require_item(fork, -1 if index is None else index)]
        else:
            runs = [run for run in fork.runs if run.error is not None]
            if what == "kind":
                runs = [run for run in runs if kind_of(run.error or {}).id == kind]
        numbers = {branch: number for number, branch in enumerate(fork.branches)}
        branches: dict[int, list[int]] = {}
        for run in runs:
            branches.setdefault(numbers[run.branch], []).append(run.index)
        return {"items": len({run.index for run in runs}), "branches": branches, "isComplete": True}


def _output(run: BranchRun, found: dict[tuple[str, int, str], Any]) -> Any:
    for task in run.tasks:
        if task.state == "success":
            result = _decoded(found.get((task.task_id, run.index, Key.RESULT.value)))
            if isinstance(result, dict):
                return result.get("output")
    return None if run.task is None else found.get((run.task.task_id, run.index, _RETURN_VALUE))


def merged_traces(traces: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the steps of a branch run from what each of its tasks has recorded, in the order of tasks.

    The last one has the steps of the tasks before it too, but does not know how long they took and what they
    called.
    """
    if not traces:
        return []
    *earlier, last = traces
    steps = list(last)
    for step in (step for trace in earlier for step in trace):
        for index, known in enumerate(steps):
            if known.get("step") == step.get("step") and known.get("seconds") is None:
                steps[index] = step
                break
    return steps


def _steps(value: Any) -> list[dict[str, Any]]:
    trace = _decoded(value)
    steps = trace.get("steps") if isinstance(trace, dict) else None
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _decoded(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else None
    except msgspec.DecodeError:
        return None
