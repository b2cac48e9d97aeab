"""A fake Dag run: tests execute its tasks one by one, without Airflow, and can kill them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import AirflowException, TaskAwaitingInput
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_allma.compat import NOT_MAPPED
from airflow_allma.dag_factory import build_dag
from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.flow import Flow
from airflow_allma.operators.retry_policy import StepRetryError
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.xcoms import Key, pull, push
from tests.airflow.flows import Json

Tries = tuple[int, int]
FIRST: Tries = (1, 0)


@dataclass
class FakeDagRun:
    """A run of a flow, with everything that Airflow would have in its database.

    Attributes:
        flow: the flow.
        payload: the run's payload.
        xcoms: all XComs, by task id, map index and key.
        notes: what tasks keep in Airflow's task state store, by task id and map index.
        states: task states as Airflow keys them, ``<task id>`` or ``<task id>_<map index>``.
        run_after: when the run may start.
        run_id: the run's id.
        run_type: what created the run.
        keeps_notes: whether Airflow has a task state store.
        parked: what tasks raised to park, by task id and map index.
        logical_date: the logical date of the run.
        events: the asset events that started it.
    """

    flow: Json
    payload: Json = field(default_factory=dict)
    xcoms: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    notes: dict[tuple[str, int], Json] = field(default_factory=dict)
    states: dict[str, str | None] = field(default_factory=dict)
    run_after: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    run_id: str = "run-1"
    run_type: str = "manual"
    logical_date: datetime | None = None
    keeps_notes: bool = True
    events: Sequence[Any] = ()
    parked: dict[tuple[str, int], TaskAwaitingInput] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dag = build_dag(Flow.model_validate(self.flow))

    def instance(self, task_id: str, map_index: int = NOT_MAPPED, tries: Tries = FIRST) -> FakeTaskInstance:
        """Return a try of a task."""
        number, cleared_after = tries
        task = self.dag.task_dict.get(task_id)
        most = cleared_after + (task.retries or 0 if task else 0)
        return FakeTaskInstance(
            self, task_id, map_index, run_id=self.run_id, try_number=number, max_tries=most
        )

    def context(self, task_id: str, map_index: int = NOT_MAPPED, tries: Tries = FIRST) -> dict[str, Any]:
        """Return the Airflow context of a try."""
        dag_run = SimpleNamespace(
            conf=self.payload,
            start_date=datetime(2026, 3, 1, tzinfo=UTC),
            run_after=self.run_after,
            run_type=self.run_type,
            logical_date=self.logical_date,
            consumed_asset_events=list(self.events),
        )
        context = {
            "ti": self.instance(task_id, map_index, tries),
            "dag_run": dag_run,
            "outlet_events": OutletEventAccessors(),
        }
        if self.keeps_notes:
            context["task_state_store"] = FakeStateStore(self.notes.setdefault((task_id, map_index), {}))
        return context

    def run(self, task_id: str, map_index: int = NOT_MAPPED, chunk: Any = None, tries: Tries = FIRST) -> Any:
        """Execute a task and return its return value, or the exception with which it failed.

        Args:
            task_id: the task.
            map_index: its map index.
            chunk: what the task of a chunk is mapped over.
            tries: the number of the try, and that of the last try before the task was cleared.
        """
        for key in [one for one in self.xcoms if one[:2] == (task_id, map_index)]:
            del self.xcoms[key]
        return self._call("execute", task_id, map_index, chunk, tries)

    def wake(
        self,
        task_id: str,
        map_index: int = NOT_MAPPED,
        chunk: Any = None,
        tries: Tries = FIRST,
        event: Any = None,
    ) -> Any:
        """Continue a task that has parked, in a new process; see ``run``."""
        parked = self.parked.pop((task_id, map_index))
        return self._call(parked.method_name, task_id, map_index, chunk, tries, event=event)

    def _call(
        self, method: str, task_id: str, map_index: int, chunk: Any, tries: Tries, **arguments: Any
    ) -> Any:
        task: Any = self.dag.get_task(task_id)
        if chunk is not None:
            partial = {key: value for key, value in task.partial_kwargs.items() if key in CHUNK_ARGUMENTS}
            task = task.operator_class(task_id=f"{task_id}-by-hand", chunk=chunk, **partial)
        context = self.context(task_id, map_index, tries)
        name = task_id if map_index == NOT_MAPPED else f"{task_id}_{map_index}"
        # What an operator keeps while it runs belongs to one try.
        task = copy.copy(task)
        try:
            returned = getattr(task, method)(context, **arguments)
        except TaskAwaitingInput as parked:
            self.states[name] = "awaiting_input"
            self.parked[task_id, map_index] = parked
            return parked
        except (AirflowException, StepRetryError) as error:
            self.states[name] = "skipped" if "Skip" in type(error).__name__ else "failed"
            return error
        self.states[name] = "success"
        if returned is not None:
            context["ti"].xcom_push("return_value", returned)
        return returned

    def plan(self, fork: str) -> list[Json]:
        """Run a fork's first two tasks and return the planned chunks."""
        self.run(f"{fork}.items")
        planned: list[Json] = self.run(f"{fork}.chunks")
        return planned

    def plan_uncounted(self, fork: str) -> list[Json]:
        """Plan chunks without item counts, like those of a manifest that is too large to count."""
        self.plan(fork)
        plan = pull(self.instance("x"), f"{fork}.chunks", Key.PLAN)
        chunks = [
            ChunkSpec(
                entry["number"], f"chunk {entry['number']}", manifest=ChunkSpec.from_dict(entry).manifest
            )
            for entry in plan["chunks"]
        ]
        plan["chunks"] = [chunk.to_dict() for chunk in chunks]
        push(self.instance(f"{fork}.chunks"), Key.PLAN, plan)
        return list(plan["chunks"])

    def kill(self, task_id: str, map_index: int) -> None:
        """Leave what a try leaves that was killed just before its end: its stored results, but no XComs."""
        for key in [one for one in self.xcoms if one[:2] == (task_id, map_index)]:
            del self.xcoms[key]
        self.states[f"{task_id}_{map_index}"] = "failed"

    def task_context(self, task_id: str) -> TaskContext:
        """Return the context of one of the tasks."""
        return TaskContext(self.dag.get_task(task_id).flow, self.context(task_id))


CHUNK_ARGUMENTS = {"flow", "step", "items", "chunks", "retries"}


@dataclass
class FakeStateStore:
    """The task state store of one task instance, which its tries share."""

    notes: Json

    def get(self, key: str) -> Any:
        """Return a value."""
        return self.notes.get(key)

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self.notes[key] = value

    def delete(self, key: str) -> None:
        """Delete a value."""
        self.notes.pop(key, None)


@dataclass
class FakeTaskInstance:
    """The methods of Airflow's task instance that tasks of flows call."""

    dag_run: FakeDagRun
    task_id: str
    map_index: int
    dag_id: str = "by-hand"
    run_id: str = "run-1"
    try_number: int = 1
    max_tries: int = 0

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom."""
        self.dag_run.xcoms[self.task_id, self.map_index, key] = value

    def xcom_pull(self, task_ids: str | list[str], key: str, map_indexes: int | None = None) -> Any:
        """Return one value; for a list of tasks, the values of all map indexes of all of them."""
        if isinstance(task_ids, str):
            return self.dag_run.xcoms.get((task_ids, NOT_MAPPED if map_indexes is None else map_indexes, key))
        found = sorted(one for one in self.dag_run.xcoms if one[0] in task_ids and one[2] == key)
        return [self.dag_run.xcoms[one] for one in found]

    def get_task_states(
        self, *, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, str | None]]:
        """Return the states of all instances of some tasks."""
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        assert map_index in {None, NOT_MAPPED}
        found = {
            name: state
            for name, state in self.dag_run.states.items()
            if name in task_ids or name.rpartition("_")[0] in task_ids
        }
        return {self.run_id: found}
